package contract

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ErrVersion reports a file of a contract version that this program does not speak.
var ErrVersion = errors.New("unsupported contract version")

// MaxFile bounds a file of the contract, in bytes. The largest is a config.json
// with a long environment; the kernel's limit on that is 6 MiB.
const MaxFile = 8 << 20

// LoadPod reads pod.json of the pod directory dir.
func LoadPod(dir string) (*Pod, error) {
	b, err := read(filepath.Join(dir, PodFile))
	if err != nil {
		return nil, err
	}
	return ParsePod(b)
}

// ParsePod parses the content of pod.json.
func ParsePod(b []byte) (*Pod, error) {
	p := &Pod{}
	if err := parse(PodFile, b, p); err != nil {
		return nil, err
	}
	return p, checkVersion(PodFile, p.Version)
}

// LoadHost reads host.json of the pod directory dir.
func LoadHost(dir string) (*Host, error) {
	b, err := read(filepath.Join(dir, HostFile))
	if err != nil {
		return nil, err
	}
	return ParseHost(b)
}

// ParseHost parses the content of host.json.
func ParseHost(b []byte) (*Host, error) {
	h := &Host{}
	if err := parse(HostFile, b, h); err != nil {
		return nil, err
	}
	return h, checkVersion(HostFile, h.Version)
}

// LoadApp reads app.json of the app name in the pod directory dir.
func LoadApp(dir, name string) (*App, error) {
	b, err := read(filepath.Join(dir, AppsDir, name, AppFile))
	if err != nil {
		return nil, err
	}
	return ParseApp(b)
}

// ParseApp parses the content of app.json.
func ParseApp(b []byte) (*App, error) {
	a := &App{}
	if err := parse(AppFile, b, a); err != nil {
		return nil, err
	}
	return a, checkVersion(AppFile, a.Version)
}

// LoadSpec reads config.json of the app name in the pod directory dir. What the
// runtime-spec has and the contract has not is an error.
func LoadSpec(dir, name string) (*specs.Spec, error) {
	b, err := read(filepath.Join(dir, AppsDir, name, SpecFile))
	if err != nil {
		return nil, err
	}
	return ParseSpec(b)
}

// LoadStarted reads the started file of an app. A missing one is os.ErrNotExist.
func LoadStarted(dir, name string) (*Started, error) {
	s := &Started{}
	return s, load(filepath.Join(dir, AppsDir, name, StartedFile), s)
}

// LoadExit reads the exit file of an app. A missing one is os.ErrNotExist.
func LoadExit(dir, name string) (*Exit, error) {
	e := &Exit{}
	return e, load(filepath.Join(dir, AppsDir, name, ExitFile), e)
}

// LoadManifest reads manifest.json of the stage1 in dir.
func LoadManifest(dir string) (*Manifest, error) {
	m := &Manifest{}
	if err := load(filepath.Join(dir, ManifestFile), m); err != nil {
		return nil, err
	}
	return m, checkVersion(ManifestFile, m.Contract)
}

// Speaks says whether this program understands files and messages of version v.
func Speaks(v int) bool { return v >= 1 && (v == Version || v == Version-1) }

func checkVersion(file string, v int) error {
	if !Speaks(v) {
		return fmt.Errorf("%s has version %d, this program speaks %d: %w", file, v, Version, ErrVersion)
	}
	return nil
}

func load(path string, v any) error {
	b, err := read(path)
	if err != nil {
		return err
	}
	return parse(path, b, v)
}

// read reads a small file with as few system calls as it takes.
func read(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Size > MaxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, MaxFile)
	}
	// One more byte than there should be: a full buffer means that it has grown.
	b := make([]byte, 0, st.Size+1)
	for len(b) < cap(b) {
		n, err := syscall.Read(fd, b[len(b):cap(b)])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		default:
			b = b[:len(b)+n]
		}
	}
	return nil, fmt.Errorf("%s changes while it is read", path)
}

func parse(name string, b []byte, v any) error {
	if err := Decode(b, v); err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	return nil
}

// Write puts v as JSON into the file name of the folder dir by rename, so that
// a reader sees the old or the new file and never a part. It does not sync:
// what must survive a power cut is synced by the caller.
func Write(dir, name string, v any) error {
	b, err := Encode(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	tmp := filepath.Join(dir, "."+name+".tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}
