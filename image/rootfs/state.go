package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/filelock"
	"rkt/internal/safepath"
)

// state is the folder of the layers under the run directory. What it says is
// true of one boot:
//
//	lock                        shared while a mount is looked up, exclusive while mounts change
//	ns                          keeps the mount namespace (namespace.go)
//	boot-<id>/verified/<hex>    the layer was hashed in this boot; says which file that was
//	boot-<id>/mounted-<ns>/<hex>  the layer is mounted at /<hex> in the namespace of that number;
//	                              says how it was verified, and from which files
//
// A record of a mount is written after it is attached and removed before it is
// detached.
type state struct {
	dir  string
	boot string // folder of this boot
	lock *filelock.Lock
}

const (
	lockFile    = "lock"
	verifiedDir = "verified"
	bootPrefix  = "boot-"
	mountPrefix = "mounted-"
)

// openState opens the folder, making what is missing.
func openState(runDir string) (*state, error) {
	id, err := bootID()
	if err != nil {
		return nil, err
	}
	s := &state{dir: filepath.Join(runDir, "layers")}
	s.boot = filepath.Join(s.dir, bootPrefix+id)
	lock, err := filelock.Create(filepath.Join(s.dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		if err = s.make(runDir); err == nil {
			lock, err = filelock.Create(filepath.Join(s.dir, lockFile))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open state of layers: %w", err)
	}
	s.lock = lock
	return s, nil
}

func (s *state) make(runDir string) error {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return err
	}
	return safepath.PrivateDir(s.dir)
}

func (s *state) Close() error { return s.lock.Close() }

// bootID identifies this boot of the host.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// mountedDir is the folder of the records of what is mounted in ns.
func (s *state) mountedDir(ns *namespace) string {
	return filepath.Join(s.boot, mountPrefix+strconv.FormatUint(ns.inode, 10))
}

// mounted returns what is recorded of the mount of d; ok is false when it is not
// mounted. A record that was cut off equals none that is wanted.
func (s *state) mounted(ns *namespace, d cas.Digest) (record mountRecord, ok bool) {
	b, err := os.ReadFile(filepath.Join(s.mountedDir(ns), d.Hex()))
	return parseMountRecord(b), err == nil
}

func (s *state) recordMounted(ns *namespace, d cas.Digest, record mountRecord) error {
	return os.WriteFile(filepath.Join(s.mountedDir(ns), d.Hex()), record.encode(), 0o600)
}

func (s *state) forgetMounted(ns *namespace, d cas.Digest) error {
	err := os.Remove(filepath.Join(s.mountedDir(ns), d.Hex()))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// renew forgets what is recorded of other boots and other namespaces, before a
// namespace is made: numbers of namespaces come again. The caller has the lock.
func (s *state) renew() error {
	if err := s.makeBoot(); err != nil {
		return err
	}
	return s.forgetOthers("")
}

func (s *state) makeBoot() error {
	return os.MkdirAll(filepath.Join(s.boot, verifiedDir), 0o700)
}

// fingerprint tells an open file from any other one, and from itself after a change.
func fingerprint(files ...*os.File) (string, error) {
	var b strings.Builder
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return "", fmt.Errorf("stat %q: %w", f.Name(), err)
		}
		b.WriteString(printOf(&st))
	}
	return b.String(), nil
}

// printOf is the line of one file in a fingerprint.
func printOf(st *unix.Stat_t) string {
	return fmt.Sprintf("%d:%d %d %d.%09d %d.%09d\n", st.Dev, st.Ino, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
}

// verified tells whether these very files were verified in this boot.
func (s *state) verified(d cas.Digest, print string) bool {
	b, err := os.ReadFile(filepath.Join(s.boot, verifiedDir, d.Hex()))
	return err == nil && string(b) == print
}

// recordVerified is called with the files' fingerprint of before they were read.
func (s *state) recordVerified(d cas.Digest, print string) error {
	if err := s.makeBoot(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.boot, verifiedDir, d.Hex()), []byte(print), 0o600)
}

// shared holds the lock with others until release is called.
func (s *state) shared(ctx context.Context) (release func(), err error) {
	if err := s.lock.Shared(ctx); err != nil {
		return nil, fmt.Errorf("lock layers: %w", err)
	}
	return func() { s.lock.Unlock() }, nil
}

// exclusive holds the lock alone until release is called.
func (s *state) exclusive(ctx context.Context) (release func(), err error) {
	if err := s.lock.Exclusive(ctx); err != nil {
		return nil, fmt.Errorf("lock layers: %w", err)
	}
	return func() { s.lock.Unlock() }, nil
}
