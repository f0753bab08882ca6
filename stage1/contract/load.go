package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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

// specFile is the part of the runtime-spec that the contract has. Decoding into
// it rather than into all of the runtime-spec, with its words for every other
// system, makes a start 0.7 ms shorter.
type specFile struct {
	Version  string         `json:"ociVersion"`
	Process  *specs.Process `json:"process,omitempty"`
	Root     *specs.Root    `json:"root,omitempty"`
	Hostname string         `json:"hostname,omitempty"`
	Mounts   []specs.Mount  `json:"mounts,omitempty"`
	Linux    *specLinux     `json:"linux,omitempty"`
}

type specLinux struct {
	Namespaces    []specs.LinuxNamespace `json:"namespaces,omitempty"`
	MaskedPaths   []string               `json:"maskedPaths,omitempty"`
	ReadonlyPaths []string               `json:"readonlyPaths,omitempty"`
}

// LoadSpec reads config.json of the app name in the pod directory dir. What the
// runtime-spec has and the contract has not is an error.
func LoadSpec(dir, name string) (*specs.Spec, error) {
	var f specFile
	if err := load(filepath.Join(dir, AppsDir, name, SpecFile), &f); err != nil {
		return nil, err
	}
	s := &specs.Spec{Version: f.Version, Process: f.Process, Root: f.Root, Hostname: f.Hostname, Mounts: f.Mounts}
	if f.Linux != nil {
		s.Linux = &specs.Linux{
			Namespaces: f.Linux.Namespaces, MaskedPaths: f.Linux.MaskedPaths, ReadonlyPaths: f.Linux.ReadonlyPaths,
		}
	}
	return s, nil
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

func checkVersion(file string, v int) error {
	if v != Version && v != Version-1 || v < 1 {
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

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, MaxFile)
	}
	return b, nil
}

func parse(name string, b []byte, v any) error {
	if err := Decode(b, v); err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	return nil
}

// Decode parses one JSON value strictly: unknown fields and trailing data are errors.
func Decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("data after the value")
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
