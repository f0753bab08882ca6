package quadlet

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// one compiles one file.
func one(t *testing.T, name, text string) Result {
	t.Helper()
	f, err := Parse("/etc/rkt/quadlet/"+name, []byte(text))
	if err != nil {
		return Result{Errors: []*Error{err.(*Error)}}
	}
	return Compile([]Source{{Name: name, Path: "/etc/rkt/quadlet/" + name, File: f}}, Host{Program: "/usr/bin/rkt", DataDir: "/var/lib/rkt"})
}

// Every key that podman's manual has is known: carried out, or refused with a
// reason.
func TestEveryKeyOfPodmanIsKnown(t *testing.T) {
	b, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"Container": "x.container", "Pod": "x.pod", "Volume": "x.volume", "Network": "x.network", "Image": "x.image",
		"Kube": "x.kube", "Quadlet": "x.container",
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		section, key, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || section == "#" {
			continue
		}
		n++
		r := one(t, files[section], "["+section+"]\n"+key+"=value\n")
		for _, e := range r.Errors {
			if strings.Contains(e.Message, "unknown key "+key) {
				t.Errorf("[%s]: %s", section, e.Message)
			}
		}
	}
	if n < 150 {
		t.Errorf("the list has %d keys", n)
	}
	r := one(t, "x.container", "[Container]\nImage=a\nNoSuchKey=1\n")
	if len(r.Errors) != 1 || r.Errors[0].Line != 3 || !strings.Contains(r.Errors[0].Message, "unknown key NoSuchKey=") {
		t.Errorf("an unknown key gives %v", r.Errors)
	}
}

// A refused key has a reason, and no key stands twice in a table.
func TestTables(t *testing.T) {
	check(t, "Container", containerRules())
	check(t, "X-Rkt", rktRules())
	check(t, "Pod", podRules())
	check(t, "Volume", volumeRules())
	check(t, "Image", imageRules())
	check(t, "Network", networkRules())
	check(t, "Kube", kubeRules())
}

func check[T any](t *testing.T, section string, rules []rule[T]) {
	seen := make(map[string]bool)
	for _, r := range rules {
		if seen[r.key] {
			t.Errorf("[%s] %s= stands twice", section, r.key)
		}
		seen[r.key] = true
		if r.do == nil && r.why == "" {
			t.Errorf("[%s] %s= is refused without a reason", section, r.key)
		}
	}
}

func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"[S]\nk=a\\\n  b\n":                 "a   b",
		"[S]\nk=a\\\n# no\n; no\nb":         "a b",
		"[S]\n# comment \\\nk=a":            "a",
		"[S]\r\nk = a \t\r\n":               "a",
		"[S]\nk=1\nk=\nk=2\nk=3":            "2|3",
		"[S]\nk=a\\\\\n":                    `a\\`,
		"[S]\n  k  =  a = b":                "a = b",
		"[S]\nk=ä":                          "ä",
		"[S]\nother":                        "error",
		"k=1":                               "error",
		"[S]\n=1":                           "error",
		"[S":                                "error",
		"[S]]\nk=1":                         "error",
		"[S]\nk=\x00":                       "error",
		"[S]\nk=\xff":                       "error",
		"[S]\nk=\x1b[31m":                   "error",
		strings.Repeat("[S]\nk=1\n", 10001): "error",
		"\xef\xbb\xbf[S]\nk=1":              "error",
		"[S]\nk=1\\":                        "1",
		"[S]\nk=a\\\n\n[S]\nk=b":            "a|b",
	} {
		f, err := Parse("f", []byte(text))
		got := "error"
		if err == nil {
			var values []string
			for _, e := range f.values("S", "k") {
				values = append(values, e.Value)
			}
			got = strings.Join(values, "|")
		}
		if got != want {
			t.Errorf("%.60q gives %q, want %q (%v)", text, got, want, err)
		}
	}
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		`a "b c" 'd e' f"g"h`: "a|b c|d e|fgh", `\x41\102\u00e4\U0001F600 a\sb`: "AB\u00e4\U0001F600|a b", "\"\" ''": "|",
		`a\tb`: "a\tb", "  ": "", `"unclosed`: "error", `bad\q`: "error", `\`: "error", `\x4`: "error", `\x00`: "error",
		`\000`: "error", `\777`: "error", `\ud800`: "error", `\U00110000`: "error", "%z": "error", `\x25z`: "error", "%%z 100%%": "%%z|100%%",
	} {
		words, err := splitWords(text)
		got := strings.Join(words, "|")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s gives %q, want %q (%v)", text, got, want, err)
		}
	}
}

// Whatever a word is, systemd reads it back as this one word.
func FuzzQuotedWordsComeBack(f *testing.F) {
	for _, s := range []string{"", "a", "a b", "\n[Service]\nExecStart=/bin/evil", `"`, `\`, "'", ";", "#", "\x7f\x01", "\xff\xc3(", "ä\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return
		}
		q := quoteWord(literal(s))
		if strings.ContainsAny(q, "\n\r") {
			t.Fatalf("%q is quoted as %q", s, q)
		}
		words, err := splitWords(q)
		if err != nil || len(words) != 1 || strings.NewReplacer("%%", "%", "$$", "$").Replace(words[0]) != s {
			t.Errorf("%q is quoted as %s, which reads as %q, %v", s, q, words, err)
		}
	})
}

// No value can become a directive that nobody wrote: the lines of a unit have
// the keys that rkt sets, and no others.
func FuzzValuesInjectNothing(f *testing.F) {
	for _, s := range []string{"a", "\"x\\nExecStart=/bin/evil\"", "a\\\nb", "%n", "${X}", "/a:/b", "data:/x", ".image", "[Service]", "type=bind,source=/a,target=/b"} {
		f.Add(s)
	}
	var keys []string
	for _, r := range containerRules() {
		keys = append(keys, r.key)
	}
	known := strings.Fields("SourcePath Wants After Requires RequiresMountsFor Description Type NotifyAccess Delegate KillMode SyslogIdentifier TimeoutStopSec SuccessExitStatus ExecStart ExecReload")
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\n\r") {
			return // more than a value
		}
		for _, key := range keys {
			r := one(t, "x.container", "[Container]\nImage=a\n"+key+"="+value+"\n")
			for _, u := range r.Units {
				parsed, err := Parse(u.Name, []byte(u.Text))
				if err != nil {
					t.Fatalf("%s=%q makes a unit that is none: %v\n%s", key, value, err, u.Text)
				}
				starts := 0
				for _, e := range parsed.entries {
					if !slices.Contains(known, e.Key) || e.Section != "Unit" && e.Section != "Service" {
						t.Fatalf("%s=%q makes the line [%s] %s=%s", key, value, e.Section, e.Key, e.Value)
					}
					if e.Key == "ExecStart" {
						starts++
					}
				}
				if starts != 1 {
					t.Fatalf("%s=%q makes %d commands:\n%s", key, value, starts, u.Text)
				}
			}
		}
	})
}

func FuzzFilesDoNotPanic(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*/*/*.*")
	for _, p := range paths {
		if b, err := os.ReadFile(p); err == nil {
			f.Add(filepath.Base(p), string(b))
		}
	}
	f.Fuzz(func(t *testing.T, name, text string) { one(t, name, text) })
}

func TestNamesThatAreNoUnits(t *testing.T) {
	for _, name := range []string{
		"a\nb.container", "100%.container", "a/b.container", "a b.container", "@x.container", "a@b@c.container", ".container", "x.conf",
		"\u202e.container", strings.Repeat("a", 250) + ".container", "a;b.container",
	} {
		r := Compile([]Source{{Name: name, Path: "/q/x.container", File: &File{}}}, Host{Program: "/usr/bin/rkt"})
		if len(r.Units) != 0 || len(r.Errors) != 1 {
			t.Errorf("%q gives the units %v, errors %v", name, r.Units, r.Errors)
		}
	}
}

// systemd itself has nothing to say against the units.
func TestSystemdVerifies(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	text, err := os.ReadFile("testdata/rkt/words/words.container")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("/etc/rkt/quadlet/words.container", text)
	if err != nil {
		t.Fatal(err)
	}
	more, err := Parse("/etc/rkt/quadlet/x.container", []byte("[Container]\nImage=a\nVolume=data:/x\nReloadSignal=HUP\n[Service]\nRestart=always\n[Install]\nAlias=y.service\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := Compile([]Source{
		{Name: "words.container", Path: "/etc/rkt/quadlet/words.container", File: f},
		{Name: "x.container", Path: "/etc/rkt/quadlet/x.container", File: more},
	}, Host{Program: "/bin/true", DataDir: "/var/lib/rkt"})
	if len(r.Errors) > 0 {
		t.Fatal(r.Errors)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, u := range r.Units {
		path := filepath.Join(dir, u.Name)
		if err := os.WriteFile(path, []byte(u.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	cmd := exec.Command(analyze, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}
