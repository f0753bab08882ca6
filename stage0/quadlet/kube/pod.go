package kube

import (
	"encoding/base64"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

func decodeBase64(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
}

// security are the fields of a securityContext that pods and containers share.
type security struct {
	user, group string
	nonRoot     bool
	groups      []string
	unconfined  bool
}

func (s *security) fields() fields {
	return fields{
		"runAsUser":    func(n node) { s.user = strconv.FormatInt(n.number(0, math.MaxInt32), 10) },
		"runAsGroup":   func(n node) { s.group = strconv.FormatInt(n.number(0, math.MaxInt32), 10) },
		"runAsNonRoot": func(n node) { s.nonRoot = n.truth() },
		"seccompProfile": func(n node) {
			n.each(fields{"type": func(n node) {
				only("RuntimeDefault", "Unconfined")(n)
				s.unconfined = n.Value == "Unconfined"
			}})
		},
	}
}

// falseOnly accepts the value that rkt has anyway.
var falseOnly = only("false")

func (c *collection) pod(m metadata, spec node) *Pod {
	p := &Pod{Name: m.name, Labels: m.labels, Annotations: m.annotations, Restart: "always", Grace: -1}
	if !validName(strings.ReplaceAll(m.name, ".", "-")) {
		spec.fail("metadata.name %q is not the name of a pod", m.name)
	}
	var containers []node
	spec.each(fields{
		"containers":                    func(n node) { n.items(func(n node) { containers = append(containers, n) }) },
		"volumes":                       func(n node) { n.items(func(n node) { p.Volumes = append(p.Volumes, c.volume(n)) }) },
		"restartPolicy":                 func(n node) { p.Restart = restart(n) },
		"hostNetwork":                   func(n node) { p.HostNetwork = n.truth() },
		"hostUsers":                     func(n node) { p.HostUsers = n.truth() },
		"hostPID":                       falseOnly,
		"hostIPC":                       falseOnly,
		"shareProcessNamespace":         falseOnly,
		"hostname":                      func(n node) { p.Hostname = n.text() },
		"terminationGracePeriodSeconds": func(n node) { p.Grace = n.number(0, 1<<31) },
		"securityContext":               func(n node) { c.podSecurity(p, n) },
		"automountServiceAccountToken":  falseOnly,
		"enableServiceLinks":            falseOnly,
		"dnsPolicy":                     only("Default", "ClusterFirst"),
	})
	if len(containers) == 0 {
		spec.fail("there are no containers")
	}
	for _, n := range containers {
		p.Containers = append(p.Containers, c.container(p, n))
	}
	p.checkUnique(spec)
	return p
}

func restart(n node) string {
	policies := map[string]string{"Always": "always", "OnFailure": "on-failure", "Never": "no"}
	policy, ok := policies[n.text()]
	if !ok {
		n.fail("%q is not supported, known are Always, OnFailure and Never", n.Value)
	}
	return policy
}

// checkUnique refuses two of a name, and mounts of what is not there.
func (p *Pod) checkUnique(spec node) {
	volumes := make(map[string]*Volume)
	for i := range p.Volumes {
		v := &p.Volumes[i]
		if volumes[v.Name] != nil {
			v.line.fail("there are two volumes %q", v.Name)
		}
		volumes[v.Name] = v
	}
	names := make(map[string]bool)
	mounted := make(map[string]int)
	for _, c := range p.Containers {
		if names[c.Name] {
			spec.fail("there are two containers %q", c.Name)
		}
		names[c.Name] = true
		for _, m := range c.Mounts {
			mounted[m.Volume]++
			v := volumes[m.Volume]
			switch {
			case v == nil:
				spec.fail("container %q mounts %q, which is no volume of the pod", c.Name, m.Volume)
			case v.Kind == VolumeMemory && mounted[m.Volume] > 1:
				v.line.fail("a volume in memory can be mounted once")
			case m.SubPath != "" && v.Kind != VolumeHost && v.Kind != VolumeFiles && v.Kind != VolumeClaim:
				v.line.fail("an empty volume has no sub path")
			}
		}
	}
	for _, v := range p.Volumes {
		if mounted[v.Name] == 0 {
			v.line.fail("the volume %q is mounted nowhere", v.Name)
		}
	}
}

func (c *collection) podSecurity(p *Pod, n node) {
	known := p.security.fields()
	known["supplementalGroups"] = func(n node) {
		n.items(func(n node) {
			p.security.groups = append(p.security.groups, strconv.FormatInt(n.number(0, math.MaxInt32), 10))
		})
	}
	known["sysctls"] = func(n node) {
		n.items(func(n node) {
			var s [2]string
			n.each(fields{"name": func(n node) { s[0] = n.text() }, "value": func(n node) { s[1] = n.text() }})
			p.Sysctls = append(p.Sysctls, s)
		})
	}
	n.each(known)
}

// volume reads one of spec.volumes.
func (c *collection) volume(n node) Volume {
	v := Volume{line: n}
	set := func(kind string) {
		if v.Kind != "" {
			n.fail("the volume has two sources")
		}
		v.Kind = kind
	}
	n.each(fields{
		"name": func(n node) { v.Name = n.text() },
		"hostPath": func(n node) {
			set(VolumeHost)
			n.each(fields{
				"path": func(n node) { v.Source = n.text() },
				"type": func(n node) {
					only("", "Directory", "File", "DirectoryOrCreate", "Socket")(n)
					v.Create = n.Value == "DirectoryOrCreate"
				},
			})
			if !path.IsAbs(v.Source) || strings.ContainsAny(v.Source, ":\n") {
				n.fail("path %q is not an absolute path without a colon", v.Source)
			}
		},
		"emptyDir": func(n node) {
			set(VolumeEmpty)
			n.each(fields{
				"medium": func(n node) {
					only("", "Memory")(n)
					v.Kind = map[bool]string{true: VolumeMemory, false: VolumeEmpty}[n.Value == "Memory"]
				},
				"sizeLimit": func(n node) { v.Size = size(n) },
			})
			if v.Size != "" && v.Kind != VolumeMemory {
				n.fail("sizeLimit needs medium: Memory")
			}
		},
		"persistentVolumeClaim": func(n node) {
			set(VolumeClaim)
			n.each(fields{"claimName": func(n node) { v.Source = n.text() }})
			if !safeKey(v.Source) || v.Source[0] == '.' || v.Source[0] == '-' {
				n.fail("claimName %q is not the name of a volume", v.Source)
			}
		},
		"configMap": func(n node) { set(VolumeFiles); v.Files = c.files(n, "ConfigMap", "name") },
		"secret":    func(n node) { set(VolumeFiles); v.Files = c.files(n, "Secret", "secretName") },
	})
	if !validName(v.Name) {
		n.fail("the name %q is not that of a volume", v.Name)
	}
	if v.Kind == "" {
		n.fail("the volume has no source")
	}
	return v
}

// files are the files of a volume of a ConfigMap or a Secret.
func (c *collection) files(n node, kind, nameField string) (files []Item) {
	var name string
	mode := uint32(0o644)
	type item struct {
		key, path string
		mode      uint32
	}
	var items []item
	n.each(fields{
		nameField:     func(n node) { name = n.text() },
		"defaultMode": func(n node) { mode = uint32(n.number(0, 0o777)) },
		"items": func(n node) {
			n.items(func(n node) {
				i := item{mode: math.MaxUint32}
				n.each(fields{
					"key":  func(n node) { i.key = n.text() },
					"path": func(n node) { i.path = n.text() },
					"mode": func(n node) { i.mode = uint32(n.number(0, 0o777)) },
				})
				if !safePath(i.path) {
					n.fail("path %q leaves the volume", i.path)
				}
				items = append(items, i)
			})
		},
	})
	data, ok := c.of(n, kind, name)
	if !ok {
		return nil
	}
	if items == nil {
		for key := range data {
			items = append(items, item{key, key, math.MaxUint32})
		}
		slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	}
	for _, i := range items {
		value, ok := c.key(n, kind, name, i.key)
		if i.mode == math.MaxUint32 {
			i.mode = mode
		}
		if ok {
			files = append(files, Item{Path: i.path, Mode: i.mode, Data: value})
		}
	}
	return files
}

// safePath says whether a relative path stays where it begins.
func safePath(p string) bool {
	if p == "" || path.IsAbs(p) || strings.ContainsAny(p, ":\n") {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if !safeKey(part) {
			return false
		}
	}
	return true
}

// size is a number of bytes in the units of Kubernetes.
func size(n node) string {
	s := n.quantity()
	units := []struct {
		suffix string
		factor float64
	}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || !(f > 0) || f*u.factor > 1<<60 {
			break
		}
		return strconv.FormatInt(int64(f*u.factor), 10)
	}
	n.fail("%q is not a size", s)
	return ""
}
