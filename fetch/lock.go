package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/image"
	"rkt/internal/filelock"
	"rkt/internal/mutant"
	"rkt/internal/safepath"
)

// Lock order: one reference, then layers in the order of their digests, then
// what cas locks. Locks end with the process that holds them.

// lock is an exclusive lock by a name, among all processes that use a store.
type lock struct {
	path string
	file *filelock.Lock
}

// lockReference locks what the reference will mean. waited tells that another
// process held it, and so may have brought the image.
func (f *Fetcher) lockReference(ctx context.Context, ref image.Ref) (l *lock, waited bool, err error) {
	if ref.Transport == image.Stdin {
		return nil, false, nil // whose bytes nobody else has
	}
	l, err = f.lock(ctx, "reference-"+cas.Of([]byte(ref.String())).Hex(), func(pid int) {
		waited = true
		f.emit(Waiting{Reference: ref.String(), PID: pid})
	})
	return l, waited, err
}

// lockLayers locks layers that are to be brought, so that of two images with
// common layers each layer is brought once.
func (f *Fetcher) lockLayers(ctx context.Context, ref image.Ref, layers []cas.Digest) (_ map[cas.Digest]*lock, err error) {
	sorted := slices.SortedFunc(slices.Values(layers), func(a, b cas.Digest) int { return strings.Compare(a.Hex(), b.Hex()) })
	locks := make(map[cas.Digest]*lock)
	defer func() {
		if err != nil {
			releaseAll(locks)
		}
	}()
	told := false
	if mutant.On("noflight") {
		return nil, nil
	}
	for _, d := range slices.Compact(sorted) {
		locks[d], err = f.lock(ctx, "layer-"+d.Hex(), func(pid int) {
			if !told {
				f.emit(Waiting{Reference: ref.String(), PID: pid})
			}
			told = true
		})
		if err != nil {
			return nil, err
		}
	}
	return locks, nil
}

func releaseAll(locks map[cas.Digest]*lock) {
	for _, l := range locks {
		l.release()
	}
}

// lock takes the lock of that name. When another one holds it, wait is called
// once with its pid (0 = unknown).
func (f *Fetcher) lock(ctx context.Context, name string, wait func(pid int)) (*lock, error) {
	dir := f.lockDir()
	if err := safepath.PrivateDir(dir); err != nil {
		return nil, fmt.Errorf("make folder of locks: %w", err)
	}
	path := filepath.Join(dir, name)
	for told := false; ; {
		file, err := openLock(path)
		if err != nil {
			return nil, err
		}
		err = file.TryExclusive()
		if errors.Is(err, filelock.ErrLocked) {
			if !told {
				wait(holder(file.File()))
			}
			told = true
			err = file.Exclusive(ctx)
		}
		if err != nil {
			file.Close()
			return nil, err
		}
		if isNamed(file.File(), path) {
			writeHolder(file.File())
			return &lock{path: path, file: file}, nil
		}
		file.Close() // the one before took the name away with it
	}
}

func openLock(path string) (*filelock.Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return filelock.New(f), nil
}

// sweepLocks removes the files of locks whose holders were killed. One that is
// held, or was taken anew meanwhile, stays.
func (f *Fetcher) sweepLocks() {
	dir := f.lockDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // they are in nobody's way
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		file, err := filelock.Open(path)
		if err != nil {
			continue
		}
		if file.TryExclusive() == nil && isNamed(file.File(), path) {
			_ = os.Remove(path)
		}
		file.Close()
	}
}

func (f *Fetcher) lockDir() string {
	return filepath.Join(filepath.Dir(f.o.Store.CAS().Dir()), "fetching")
}

// isNamed reports whether path still names the open file.
func isNamed(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, named)
}

// holder reads who holds a lock; 0 = unknown.
func holder(f *os.File) int {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 16))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// writeHolder tells others who holds the lock. It is only for a message, so a
// full disk does not matter.
func writeHolder(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
}

// release gives the lock back and removes its file: whoever waits for it finds
// out and takes a new one. It may be called twice, and for no lock.
func (l *lock) release() {
	if l == nil || l.file == nil {
		return
	}
	_ = os.Remove(l.path) // one that stays is used again
	l.file.Close()
	l.file = nil
}
