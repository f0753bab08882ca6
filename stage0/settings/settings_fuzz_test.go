package settings

import (
	"path/filepath"
	"testing"

	"rkt/image/rootfs"
)

// Whatever is in a file: it is refused, or every setting is one that rkt knows.
func FuzzFiles(f *testing.F) {
	for _, s := range []string{
		paths(`"data":"/srv/rkt","run":"/run/rkt","stores":[{"path":"/x","verify":"never"}]`),
		`{"rktKind":"stage1","rktVersion":"v1","name":"native","dirs":["/opt/stage1"]}`,
		defaults(`"pullPolicy":"new","verify":"kernel","net":"none","driver":"erofs"`),
		paths(`"data":"/a/../b"`), defaults(`"verify":null`), `{"rktKind":"paths","rktVersion":"v1","stores":[{}]}`, `[]`, `null`, "{\"\u017ftores\":[]}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePaths(b); err == nil {
			for _, path := range []string{p.Data, p.Run} {
				if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
					t.Errorf("%q is accepted as a path", path)
				}
			}
			for _, s := range p.Stores {
				if _, err := rootfs.ParseTier(s.Verify); s.Path == "" || s.Verify != "" && err != nil {
					t.Errorf("%+v is accepted as a store", s)
				}
			}
		}
		if d, err := parseDefaults(b); err == nil && d.Verify != "" {
			if _, err := rootfs.ParseTier(d.Verify); err != nil {
				t.Errorf("%q is accepted as a tier", d.Verify)
			}
		}
		if s, err := parseStage1(b); err == nil && filepath.Base(s.Name) != s.Name && s.Name != "" {
			t.Errorf("%q is accepted as a stage1", s.Name)
		}
	})
}
