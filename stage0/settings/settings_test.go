package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rkt/image/rootfs"
	"rkt/internal/confdir"
)

// folders makes the files, below usr, etc and home, which win in that order.
func folders(t *testing.T, files map[string]string) confdir.Folders {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return confdir.Folders{filepath.Join(root, "usr"), filepath.Join(root, "etc"), filepath.Join(root, "home")}
}

func defaults(rest string) string {
	return `{"rktKind":"defaults","rktVersion":"v1",` + rest + `}`
}

func paths(rest string) string { return `{"rktKind":"paths","rktVersion":"v1",` + rest + `}` }

func TestLaterFolderWins(t *testing.T) {
	f := folders(t, map[string]string{
		"usr/defaults.d/a.json":  defaults(`"verify":"never","pullPolicy":"never"`),
		"usr/defaults.d/b.json":  defaults(`"driver":"dir"`),
		"etc/defaults.d/b.json":  "", // masks
		"etc/defaults.d/x.json":  defaults(`"verify":"always"`),
		"home/defaults.d/y.json": defaults(`"pullPolicy":"update"`),
		"usr/paths.d/p.json":     paths(`"data":"/usr/data","stores":[{"path":"/usr/store","verify":"never"}]`),
		"etc/paths.d/q.json":     paths(`"data":"/etc/data","run":"/etc/run","stores":[{"path":"/etc/store"}]`),
		"etc/stage1.d/s.json":    `{"rktKind":"stage1","rktVersion":"v1","name":"fly","dirs":["/opt/stage1"]}`,
		"etc/paths.d/notes.txt":  "ignored",
	})
	s, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got       Value
		want, end string
	}{
		{"verify", s.Verify, "always", "etc/defaults.d/x.json"},
		{"pull policy", s.PullPolicy, "update", "home/defaults.d/y.json"},
		{"driver", s.Driver, "", ""},
		{"data", s.Data, "/etc/data", "etc/paths.d/q.json"},
		{"run", s.Run, "/etc/run", "etc/paths.d/q.json"},
		{"stage1", s.Stage1, "fly", "etc/stage1.d/s.json"},
	} {
		if c.got.Text != c.want || !strings.HasSuffix(c.got.From, c.end) {
			t.Errorf("%s: %+v, want %q from %s", c.name, c.got, c.want, c.end)
		}
	}
	if len(s.Stores) != 2 || s.Stores[0].Path != "/etc/store" || s.Stores[1].Verify != rootfs.Never {
		t.Errorf("stores: %+v", s.Stores)
	}
	if len(s.Stage1Dirs) != 1 || s.Stage1Dirs[0].Text != "/opt/stage1" {
		t.Errorf("folders of stage1s: %+v", s.Stage1Dirs)
	}
}

// What is not understood is refused, with the file and the key.
func TestSettingsAreStrict(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"unknown key":        {"etc/defaults.d/a.json", defaults(`"verfy":"boot"`), `"verfy"`},
		"key twice":          {"etc/defaults.d/a.json", defaults(`"verify":"boot","verify":"never"`), `"verify"`},
		"key in other case":  {"etc/defaults.d/a.json", defaults(`"Verify":"boot"`), `"Verify"`},
		"unknown tier":       {"etc/defaults.d/a.json", defaults(`"verify":"sometimes"`), `"sometimes"`},
		"unknown policy":     {"etc/defaults.d/a.json", defaults(`"pullPolicy":"often"`), `pullPolicy`},
		"unknown driver":     {"etc/defaults.d/a.json", defaults(`"driver":"zfs"`), `driver`},
		"other kind":         {"etc/defaults.d/a.json", paths(`"data":"/x"`), `"data"`},
		"wrong kind":         {"etc/paths.d/a.json", `{"rktKind":"path","rktVersion":"v1"}`, `rktKind`},
		"newer version":      {"etc/paths.d/a.json", `{"rktKind":"paths","rktVersion":"v2"}`, `rktVersion`},
		"relative path":      {"etc/paths.d/a.json", paths(`"data":"data"`), `data`},
		"path with ..":       {"etc/paths.d/a.json", paths(`"run":"/run/../etc"`), `run`},
		"path with newline":  {"etc/paths.d/a.json", paths(`"run":"/run/a\nb"`), `run`},
		"store without path": {"etc/paths.d/a.json", paths(`"stores":[{}]`), `path`},
		"stage1 with a path": {"etc/stage1.d/a.json", `{"rktKind":"stage1","rktVersion":"v1","name":"../x"}`, `name`},
		"not JSON":           {"etc/stage1.d/a.json", `name = fly`, `stage1.d/a.json`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(folders(t, map[string]string{c.file: c.text}))
			if err == nil || !strings.Contains(err.Error(), filepath.Base(c.file)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Load() = %v, want an error with the file and %s", err, c.want)
			}
		})
	}
}

func TestTwoFilesOfAFolderMustNotDisagree(t *testing.T) {
	_, err := Load(folders(t, map[string]string{"etc/defaults.d/a.json": defaults(`"verify":"boot"`), "etc/defaults.d/b.json": defaults(`"verify":"always"`)}))
	if err == nil || !strings.Contains(err.Error(), "a.json") || !strings.Contains(err.Error(), "b.json") {
		t.Errorf("Load() = %v, want an error with both files", err)
	}
}

// What others can write decides nothing.
func TestFilesOfOthersAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"file writable by others":   func(dir string) error { return os.Chmod(filepath.Join(dir, "defaults.d/a.json"), 0o666) },
		"folder writable by others": func(dir string) error { return os.Chmod(filepath.Join(dir, "defaults.d"), 0o777) },
		"link": func(dir string) error {
			return os.Symlink("a.json", filepath.Join(dir, "defaults.d/b.json"))
		},
		"file of another user": func(dir string) error { return os.Chown(filepath.Join(dir, "defaults.d/a.json"), 12345, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root, to give files away")
			}
			f := folders(t, map[string]string{"etc/defaults.d/a.json": defaults(`"verify":"never"`)})
			if err := spoil(f[1]); err != nil {
				t.Fatal(err)
			}
			var refused *confdir.Refused
			if _, err := Load(f); !errors.As(err, &refused) {
				t.Errorf("Load() = %v, want Refused", err)
			}
		})
	}
}
