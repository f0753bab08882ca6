package quadlet

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"rkt/stage0/quadlet/kube"
)

// kubeFile is a .kube file that is being read.
type kubeFile struct {
	run     *run
	yaml    Entry
	configs []Entry
	dir     string // working directory, "" = none
}

// kube makes the unit of a .kube file: what the YAML says, as flags of rkt run.
// The texts in it are taken literally: specifiers and variables are for the
// .kube file alone.
func (c *compiler) kube(s *source) error {
	f := &kubeFile{run: c.newRun(s)}
	if err := errors.Join(apply(f, s.File, "Kube", kubeRules()), apply(&podFile{run: f.run}, s.File, rktSection, rktPodRules())); err != nil {
		return err
	}
	if f.yaml.Value == "" {
		return errors.New("[Kube] has no Yaml=")
	}
	pod, paths, err := f.read()
	if err != nil {
		return err
	}
	f.pod(pod)
	var errs []error
	needsFiles := false
	for _, kc := range pod.Containers {
		a := f.run.newApp(s)
		needsFiles = f.container(a, pod, kc, &errs) || needsFiles
	}
	if err := errors.Join(errs...); err != nil {
		return located(f.yaml, err)
	}
	if needsFiles {
		f.run.set("RuntimeDirectory", KubeDir+"/%N")
		f.run.set("RuntimeDirectoryMode", "0700")
		f.run.exec("ExecStartPre", nil, append([]string{"quadlet", "files", "--into=" + filesDir}, literals(paths)...)...)
	}
	if f.dir != "" && !f.run.said("WorkingDirectory") {
		f.run.set("WorkingDirectory", plain(f.dir))
	}
	return f.run.finishRun()
}

// KubeDir is the folder below /run for the files of ConfigMaps and Secrets.
const KubeDir = "rkt-kube"

// filesDir is that of a unit.
const filesDir = "%t/" + KubeDir + "/%N"

// Names in filesDir.
const (
	FilesOfVolumes     = "volumes"     // NAME/FILE
	FilesOfEnvironment = "environment" // CONTAINER
)

// read reads the YAML.
func (f *kubeFile) read() (*kube.Pod, []string, error) {
	s := f.run.src
	var files []kube.File
	var paths []string
	for _, e := range append([]Entry{f.yaml}, f.configs...) {
		p, err := absolute(s.Path, e.Value)
		if err != nil || hasSpecifier(e.Value) {
			return nil, nil, e.fail("%s=%s: the path is read before systemd replaces specifiers", e.Key, e.Value)
		}
		a, ok := s.Attached[p]
		if !ok || a.Err != nil {
			return nil, nil, e.fail("%s=%s: %v", e.Key, e.Value, a.Err)
		}
		files = append(files, kube.File{Path: p, Text: a.Text})
		paths = append(paths, p)
	}
	pod, err := kube.Read(files)
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) {
		return pod, paths, err
	}
	var errs []error
	for _, e := range several.Unwrap() {
		var p *kube.Problem
		if errors.As(e, &p) {
			e = &Error{Path: p.File, Line: p.Line, Message: p.Message}
		}
		errs = append(errs, e)
	}
	return nil, nil, errors.Join(errs...)
}

// pod adds what the containers share.
func (f *kubeFile) pod(p *kube.Pod) {
	r := f.run
	r.name = p.Name
	hostname := p.Hostname
	if hostname == "" {
		hostname = p.Name
	}
	r.flag("hostname", literal(hostname))
	for _, k := range sortedNames(p.Labels) {
		r.flag("label", literal(k+"="+p.Labels[k]))
	}
	for _, k := range sortedNames(p.Annotations) {
		r.flag("annotation", literal(k+"="+p.Annotations[k]))
	}
	if !r.has("net") && p.HostNetwork {
		r.nets = append(r.nets, "host")
		r.flag("net", "host")
	}
	f.ports(p)
	if !r.has("private-users") && p.HostUsers {
		r.flag("private-users", "no")
	}
	for _, s := range p.Sysctls {
		r.flag("sysctl", literal(s[0]+"="+s[1]))
	}
	for _, v := range p.Volumes {
		switch {
		case v.Kind == kube.VolumeEmpty:
			r.flag("volume", v.Name+",kind=empty,mode=0777")
		case v.Create:
			r.set("ExecStartPre", "mkdir -p -m 0755 -- "+quoteWord(literal(v.Source)))
		}
	}
	if p.Grace >= 0 {
		r.stopping = time.Duration(p.Grace) * time.Second
	}
}

// ports publishes those of the YAML that no PublishPort= is about. On the host's
// network they are the host's anyway.
func (f *kubeFile) ports(p *kube.Pod) {
	if slices.Contains(f.run.nets, "host") {
		return
	}
	for _, kp := range p.Ports {
		inPod := strconv.Itoa(kp.Container)
		if f.run.publishes(inPod, kp.Protocol) {
			continue
		}
		address := anyAddress
		if kp.HostIP.IsValid() {
			if address = kp.HostIP.String(); kp.HostIP.Is6() {
				address = "[" + address + "]"
			}
		}
		f.run.published = append(f.run.published, f.yaml)
		f.run.publish(port{address: address, onHost: strconv.Itoa(kp.Host), inPod: inPod, protocol: kp.Protocol})
	}
}

// container adds an app, and says whether it needs files that are made at the
// start.
func (f *kubeFile) container(a *app, p *kube.Pod, kc kube.Container, errs *[]error) (needsFiles bool) {
	fail := func(err error) {
		if err != nil {
			*errs = append(*errs, fmt.Errorf("container %q: %w", kc.Name, err))
		}
	}
	a.flag("name", kc.Name)
	a.flag("restart", p.Restart)
	var err error
	a.image, err = checkReference(a.src.Path, literal(kc.Image))
	fail(err)
	a.pull = kc.Pull
	a.args = literals(kc.Args)
	if len(kc.Command) > 0 {
		a.exec = literals(kc.Command)
	}
	if p.Grace >= 0 {
		a.flag("stop-timeout", strconv.FormatInt(p.Grace, 10)+"s")
	}
	a.kubeFlags(kc)
	secret := false
	for _, v := range kc.Env {
		if v.Secret {
			secret = true
			continue
		}
		a.flag("environment", literal(v.Name+"="+v.Value))
	}
	if secret {
		a.flag("env-file", filesDir+"/"+FilesOfEnvironment+"/"+kc.Name)
	}
	fromFiles := false
	for _, m := range kc.Mounts {
		files, err := f.mount(a, p, m)
		fail(err)
		fromFiles = fromFiles || files
	}
	return secret || fromFiles
}

// kubeFlags adds the flags for what a container says of itself.
func (a *app) kubeFlags(kc kube.Container) {
	for _, v := range []struct{ name, value string }{
		{"working-dir", literal(kc.WorkingDir)}, {"user", kc.User}, {"group", kc.Group}, {"memory", kc.Memory},
		{"supplementary-gids", strings.Join(kc.Groups, ",")}, {"cap-drop", strings.Join(kc.CapsDrop, ",")}, {"cap-add", strings.Join(kc.CapsAdd, ",")},
	} {
		if v.value != "" {
			a.flag(v.name, v.value)
		}
	}
	if kc.CPUMillis > 0 {
		a.flag("cpu", strconv.FormatInt(kc.CPUMillis, 10)+"m")
	}
	if kc.CPUShares > 0 {
		a.flag("cpu-shares", strconv.FormatInt(kc.CPUShares, 10))
	}
	for _, v := range []struct {
		flag string
		on   bool
	}{{"--readonly-rootfs", kc.ReadOnly}, {"--allow-privilege-escalation", kc.Escalate}, {"--seccomp=unconfined", kc.Unconfined}} {
		if v.on {
			a.flags = append(a.flags, v.flag)
		}
	}
}

// mount mounts a volume in an app, and says whether its files are made at the
// start.
func (f *kubeFile) mount(a *app, p *kube.Pod, m kube.Mount) (files bool, err error) {
	target := literal(m.Path)
	for _, v := range p.Volumes {
		if v.Name != m.Volume {
			continue
		}
		sub := func(dir string) string { return strings.TrimSuffix(dir+"/"+m.SubPath, "/") }
		switch v.Kind {
		case kube.VolumeHost:
			return false, a.bind(sub(literal(path.Clean(v.Source))), target, m.ReadOnly)
		case kube.VolumeClaim:
			if err := f.run.c.volumeFor(a, v.Source); err != nil {
				return false, err
			}
			return false, a.bind(sub(f.run.c.volumePath(v.Source)), target, m.ReadOnly)
		case kube.VolumeFiles: // Kubernetes has them read-only as well
			if err := a.target(target); err != nil {
				return true, err
			}
			a.flag("volume", sub(filesDir+"/"+FilesOfVolumes+"/"+v.Name)+":"+target+":ro")
			return true, nil
		case kube.VolumeMemory:
			options := "mode=1777"
			if v.Size != "" {
				options += ",size=" + v.Size
			}
			if m.ReadOnly {
				options += ",ro"
			}
			a.flag("tmpfs", target+":"+options)
			return false, a.target(target)
		}
		value := "volume=" + v.Name + ",target=" + target
		if m.ReadOnly {
			value += ",readOnly=true"
		}
		a.flag("mount", value)
		return false, a.target(target)
	}
	return false, fmt.Errorf("there is no volume %q", m.Volume)
}

// kubeRules are the keys of [Kube].
func kubeRules() []rule[*kubeFile] {
	rules := []rule[*kubeFile]{
		{key: "Yaml", do: func(f *kubeFile, e Entry) error { f.yaml = e; return nil }},
		{key: "ConfigMap", lists: true, do: func(f *kubeFile, e Entry) error { f.configs = append(f.configs, e); return nil }},
		{key: "ServiceName", do: nothing[*kubeFile]},
		{key: "Network", lists: true, do: func(f *kubeFile, e Entry) error { return f.run.setNetwork(e) }},
		{key: "PublishPort", lists: true, do: func(f *kubeFile, e Entry) error { return f.run.publishPort(e) }},
		{key: "UserNS", do: func(f *kubeFile, e Entry) error { return f.run.setUserNS(e) }},
		{key: "LogDriver", do: only[*kubeFile]("what the apps write is the unit's output", "journald", "passthrough")},
		{key: "ExitCodePropagation", do: only[*kubeFile]("the pod fails when an app does", "any")},
		{key: "KubeDownForce", do: only[*kubeFile]("volumes outlive the pod; rkt volume rm removes them", "false", "no", "0")},
		{key: "SetWorkingDirectory", do: (*kubeFile).setWorkingDirectory},
	}
	rules = append(rules, refused[*kubeFile]("nothing updates images by itself; imagePullPolicy: Always fetches at each start", "AutoUpdate")...)
	rules = append(rules, refused[*kubeFile](noModules, "ContainersConfModule")...)
	return append(rules, refused[*kubeFile](noArguments, "PodmanArgs", "GlobalArgs")...)
}

func (f *kubeFile) setWorkingDirectory(e Entry) error {
	switch e.Value {
	case "unit":
		f.dir = path.Dir(f.run.src.Path)
	case "yaml":
		p, err := absolute(f.run.src.Path, valueOf(f.run.src.File, "Kube", "Yaml"))
		if err != nil {
			return err
		}
		f.dir = path.Dir(p)
	default:
		return e.fail("SetWorkingDirectory=%s is not supported: known are yaml and unit", e.Value)
	}
	return nil
}
