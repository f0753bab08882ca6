package volume

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestVolumesComeAndGo(t *testing.T) {
	s := Open(t.TempDir())
	if v, err := s.List(); err != nil || len(v) != 0 {
		t.Fatalf("without volumes: %v, %v", v, err)
	}
	o := Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mode: 0o2770, Labels: map[string]string{"a": "b"}}
	if os.Getuid() == 0 {
		o.UID, o.GID = 999, 998
	}
	if created, err := s.Create("db", o); err != nil || !created {
		t.Fatalf("Create() = %v, %v", created, err)
	}
	if err := os.WriteFile(filepath.Join(s.Path("db"), "file"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if created, err := s.Create("db", Options{Mode: 0o700}); err != nil || created {
		t.Errorf("Create() of one that is there = %v, %v", created, err)
	}
	info, err := os.Stat(s.Path("db"))
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Mode&0o7777 != 0o2770 || st.Uid != o.UID || st.Gid != o.GID {
		t.Errorf("the folder has mode %o, owner %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Name != "db" || list[0].Labels["a"] != "b" || list[0].Created.IsZero() || list[0].Path != s.Path("db") {
		t.Errorf("List() = %+v, %v", list, err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, recordsDir, "db.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("with a damaged record: %v, %v", list, err)
	}
	if err := s.Remove("db"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("db"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove() again = %v", err)
	}
	left, _ := os.ReadDir(s.dir)
	if len(left) != 1 || left[0].Name() != recordsDir {
		t.Errorf("left are %v", left)
	}
}

func TestOneOfManyCreates(t *testing.T) {
	s := Open(t.TempDir())
	var mu sync.Mutex
	var all sync.WaitGroup
	made := 0
	for range 8 {
		all.Go(func() {
			created, err := s.Create("v", Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if created {
				made++
			}
		})
	}
	all.Wait()
	if made != 1 {
		t.Errorf("%d have made the volume", made)
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	s := Open(t.TempDir())
	for _, name := range []string{"", ".", "..", ".records", "a/b", "a\nb", "-a", "ä", string(make([]byte, 200))} {
		if _, err := s.Create(name, Options{}); err == nil {
			t.Errorf("Create(%q) succeeded", name)
		}
		if err := s.Remove(name); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("Remove(%q) = %v", name, err)
		}
	}
}
