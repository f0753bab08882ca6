package stage0

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

func TestEtcFilesOfAPodWithoutANetwork(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := t.TempDir()
	w := podWriter{dir: dir}
	w.folder(contract.EtcDir, 0o755, 0, 0)
	if w.err != nil {
		t.Fatal(w.err)
	}
	pod := &contract.Pod{Hostname: "web", UTS: contract.Private, Net: contract.Net{Mode: contract.NetNone}}
	for range 2 { // a second run of the same pod replaces them
		if err := writeEtc(dir, pod); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"hosts": "127.0.0.1\tlocalhost web\n::1\tlocalhost web\n", "hostname": "web\n", "resolv.conf": "",
	} {
		path := filepath.Join(dir, contract.EtcDir, name)
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("mode of %s = %v, %v, want 0644 whatever the umask", name, st.Mode(), err)
		}
	}
}

func TestEtcFilesOnTheHostsNetworkAreTheHosts(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, contract.EtcDir), 0o755); err != nil {
		t.Fatal(err)
	}
	pod := &contract.Pod{Hostname: "web-of-a-test", UTS: contract.Private, Net: contract.Net{Mode: contract.NetHost}}
	if err := writeEtc(dir, pod); err != nil {
		t.Fatal(err)
	}
	hosts, err := os.ReadFile(filepath.Join(dir, contract.EtcDir, "hosts"))
	if err != nil || !strings.HasSuffix(string(hosts), "127.0.1.1\tweb-of-a-test\n") {
		t.Errorf("hosts = %q, %v", hosts, err)
	}
	want, err := readEtc("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, contract.EtcDir, "resolv.conf")); err != nil || string(got) != want {
		t.Errorf("resolv.conf = %q, %v, want the host's", got, err)
	}
}

func TestPodWriterIgnoresTheUmask(t *testing.T) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	w := podWriter{dir: t.TempDir()}
	w.folder("shared", 0o1777, 12, 34)
	w.folder("private", 0o700, 0, 0)
	w.file("secret", []byte("x"))
	if w.err != nil {
		t.Fatal(w.err)
	}
	for name, want := range map[string]uint32{"shared": 0o1777, "private": 0o700, "secret": 0o600} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(w.dir, name), &st); err != nil || st.Mode&0o7777 != want {
			t.Errorf("mode of %s = %o, %v, want %o", name, st.Mode&0o7777, err, want)
		}
		if name == "shared" && (st.Uid != 12 || st.Gid != 34) {
			t.Errorf("owner of %s = %d:%d, want 12:34", name, st.Uid, st.Gid)
		}
	}
}
