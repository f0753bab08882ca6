package atomicfile

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, content := range []string{"long first content", "second"} {
		for _, sync := range []bool{true, false} {
			if err := Write(dir, "f", []byte(content), 0o644, sync); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "f"))
			if err != nil || string(b) != content {
				t.Errorf("file has %q, %v, want %q", b, err, content)
			}
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "f")); err != nil || st.Mode() != 0o644 {
		t.Errorf("mode is %v, %v, want 0644 whatever the umask", st.Mode(), err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder has %q, want only the file", got)
	}
}

func TestRemoveTemporary(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".ABC.tmp", "ABC.tmp", ".abc", "x.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTemporary(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 3 {
		t.Errorf("folder has %q, want all but .ABC.tmp", got)
	}
}

func TestWriteFailsWithoutTrace(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, "taken", []byte("x"), 0o600, true); err == nil {
		t.Error("Write() over a folder succeeded")
	}
	if got := names(t, dir); len(got) != 1 || got[0] != "taken" {
		t.Errorf("folder has %q, want only what was there", got)
	}
	// No space: the file must not come into being, not even empty.
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small filesystem")
	}
	small := filepath.Join(dir, "taken")
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	if err := Write(small, "big", make([]byte, 64<<10), 0o600, true); err == nil {
		t.Error("Write() of 64 KiB into 16 KiB succeeded")
	}
	if got := names(t, small); len(got) != 0 {
		t.Errorf("full folder has %q, want nothing", got)
	}
}
