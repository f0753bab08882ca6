package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// document is a JSON object of an image.
type document = map[string]any

// edited copies the layout of an image and lets edit change its config and its
// manifest, whose digests follow. It returns the reference of the copy.
func edited(t testing.TB, name string, edit func(config, manifest, index document)) string {
	t.Helper()
	from, to := layout(t, name), t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	load := func(path string) (d document) {
		b, err := os.ReadFile(filepath.Join(to, path))
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	blob := func(descriptor any) string {
		return "blobs/sha256/" + strings.TrimPrefix(descriptor.(document)["digest"].(string), "sha256:")
	}
	save := func(d document, descriptor any) {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		write(t, filepath.Join(to, "blobs/sha256", hex.EncodeToString(sum[:])), string(b))
		descriptor.(document)["digest"], descriptor.(document)["size"] = "sha256:"+hex.EncodeToString(sum[:]), len(b)
	}
	index := load("index.json")
	entry := index["manifests"].([]any)[0]
	manifest := load(blob(entry))
	config := load(blob(manifest["config"]))
	edit(config, manifest, index)
	save(config, manifest["config"])
	save(manifest, entry)
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "index.json"), string(b))
	return "oci:" + to
}

// magic are labels and annotations that something somewhere obeys.
func magic() document {
	m := document{}
	for _, prefix := range []string{
		"io.podman.annotations.", "io.containerd.", "containerd.io/restart.", "io.kubernetes.cri-o.", "io.kubernetes.cri.", "run.oci.", "com.docker.",
		"org.systemd.property.", "cdi.k8s.io/", "container.apparmor.security.beta.kubernetes.io/", "seccomp.security.alpha.kubernetes.io/",
		"krun.", "io.katacontainers.", "nvidia.com/", "org.criu.", "appc.io/", "coreos.com/rkt/", "rkt.", "io.buildah.", "devices.nri.io/",
	} {
		for _, key := range []string{
			"privileged", "seccomp", "apparmor", "label", "userns", "userns-mode", "devices", "keep_original_groups", "handler", "mounts",
			"capabilities", "cgroup", "hooks.stdin", "net", "pid", "init", "autoremove", "volumes-from", "loguri", "policy",
		} {
			m[prefix+key] = "true"
		}
		m[prefix+"path"] = "/etc/shadow"
	}
	return m
}

// RT-18: an image with hundreds of labels and annotations that other runtimes
// obey gives the same pod as one without: what the probe sees is the same.
func TestImageMetadataSteersNothing(t *testing.T) {
	h := newHost(t)
	plain := edited(t, "busybox", func(config, _, _ document) { delete(config["config"].(document), "Labels") })
	marked := edited(t, "busybox", func(config, manifest, index document) {
		config["config"].(document)["Labels"] = magic()
		manifest["annotations"] = magic()
		for _, l := range manifest["layers"].([]any) {
			l.(document)["annotations"] = magic()
		}
		index["annotations"] = magic()
		index["manifests"].([]any)[0].(document)["annotations"] = magic()
		// Fields that docker's configs have, or that somebody may look for.
		for _, key := range []string{"Privileged", "HostConfig", "SecurityOpt", "CapAdd", "Devices", "Binds", "NetworkMode", "OnBuild", "Shell", "Healthcheck", "Hostname", "Domainname", "MacAddress"} {
			config["config"].(document)[key] = "host"
		}
		config["container_config"] = document{"Privileged": true}
	})
	flags := []string{"--hostname=same", "--name=same"}
	a, b := h.probe(flags, plain), h.probe(flags, marked)
	for _, p := range []*probed{&a, &b} { // what is of one pod, not of its image
		p.Namespaces = map[string]string{"names": strings.Join(sortedKeys(p.Namespaces), " ")}
		p.UIDMap, p.Cgroup = fmt.Sprint(len(strings.Fields(p.UIDMap))), ""
		for i := range p.Mounts {
			p.Mounts[i].Super = ""
		}
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the pod of the marked image differs:\n%+v\n%+v", b, a)
	}
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// RT-11: what an image says reaches the app byte by byte or is refused with one
// clean line, and never reaches rkt itself.
func TestHostileMetadata(t *testing.T) {
	for _, c := range []struct {
		name    string
		key     string
		value   any
		env     string // of the app, when it starts
		refusal string // part of the message, when it does not
	}{
		{"variable with newlines", "Env", []string{"A=x\nB=y\r\n"}, "A=x\nB=y\r\n", ""},
		{"variable with escapes", "Env", []string{"A=\x1b]0;x\x07\x7f\u2028"}, "A=\x1b]0;x\x07\x7f\u2028", ""},
		{"variables of the linker and of Go", "Env", []string{"LD_PRELOAD=/evil.so", "GODEBUG=x=1", "GOTRACEBACK=crash", "LD_AUDIT=/evil.so"}, "LD_PRELOAD=/evil.so", ""},
		{"variables of systemd", "Env", []string{"NOTIFY_SOCKET=/run/x", "LISTEN_FDS=9", "LISTEN_PID=1"}, "", ""},
		{"variable without a name", "Env", []string{"=x"}, "", "="},
		{"variable with NUL", "Env", []string{"A=\x00"}, "", "nul"},
		{"variable of 200 KiB", "Env", []string{"A=" + strings.Repeat("x", 200<<10)}, "", ""},
		{"user with a newline", "User", "root\nevil", "", "user"},
		{"user above all numbers", "User", "4294967296", "", "user"},
		{"user -1", "User", "4294967295", "", "user"},
		{"user with a path", "User", "../../etc/passwd", "", "user"},
		{"working directory of a descriptor", "WorkingDir", "/proc/self/fd/7", "", "working directory"},
		{"working directory with a newline", "WorkingDir", "/a\nb", "", ""},
		{"relative working directory", "WorkingDir", "../..", "", "working directory"},
		{"stop signal that is none", "StopSignal", "SIGKILL\nSIGTERM", "", "signal"},
		{"stop signal above all", "StopSignal", "999", "", "signal"},
		{"port that is none", "ExposedPorts", document{"80/tcp\nx": document{}}, "", "port"},
		{"volume at /proc", "Volumes", document{"/proc": document{}}, "", ""},
		{"volume with a newline", "Volumes", document{"/a\nb": document{}}, "", ""},
		{"volume above the root", "Volumes", document{"/../..": document{}}, "", "volume"},
		{"label of 1 MiB with escapes", "Labels", document{"a\x1b[2J\n": strings.Repeat("\x1b[2J", 1<<18)}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			ref := edited(t, "busybox", func(config, _, _ document) { config["config"].(document)[c.key] = c.value })
			args := append([]string{"run", "--rm", ref}, withProbe()...)
			r := h.rkt(append(args, "--", "/probe")...)
			for _, ch := range r.stderr {
				if ch != '\n' && ch != '\t' && unicode.IsControl(ch) {
					t.Errorf("a control character in the message: %q", r.stderr)
					break
				}
			}
			if r.code != 0 {
				if lines := strings.Count(r.stderr, "rkt: error: ") + strings.Count(r.stderr, "stage1: app "); lines != 1 || !strings.Contains(strings.ToLower(r.stderr), c.refusal) {
					t.Errorf("refused by %q, want one line with %q", r.stderr, c.refusal)
				}
				if c.env != "" {
					t.Errorf("it does not start: %s", r.stderr)
				}
				return
			}
			if c.refusal != "" {
				t.Fatalf("it starts")
			}
			p := parseProbe(t, r.stdout)
			if c.env != "" && !slices.Contains(p.Env, c.env) {
				t.Errorf("environment %q, want %q in it", p.Env, c.env)
			}
			if len(p.FDs) > 0 {
				t.Errorf("open files %v", p.FDs)
			}
		})
	}
}

// The environment of an image is the app's alone: neither stage1 nor the child
// that becomes the app has it before the app is executed.
func TestEnvironmentOfTheImageStaysInTheApp(t *testing.T) {
	h := newHost(t)
	ref := edited(t, "busybox", func(config, _, _ document) {
		config["config"].(document)["Env"] = []string{"PATH=/bin", "LD_PRELOAD=/evil.so", "GODEBUG=madvdontneed=9"}
	})
	p := h.start("run", "--name=env", ref, "--", "sh", "-c", "echo ready; exec sleep 1000")
	if line := p.line(); line != "ready" {
		t.Fatalf("the app says %q", line)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "evil") || strings.Contains(string(b), "madvdontneed=9") {
		t.Errorf("the supervisor has the image's environment: %q", b)
	}
	p.stop()
}
