package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Names below the data directory.
const (
	podsDir  = "pods"
	namesDir = "names"
)

// createAttempts bounds how often Create starts again because a gc took the
// new directory for one that a crash left behind.
const createAttempts = 16

// Dir is the folder of all pods.
type Dir struct {
	path string
	root *os.File // nil as long as no pod was ever created
	boot string
}

// Open opens the pods below dataDir. It writes nothing: when there never was a
// pod, the Dir is empty.
func Open(dataDir string) (*Dir, error) {
	d := &Dir{path: filepath.Join(dataDir, podsDir)}
	root, err := os.OpenFile(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open folder of pods: %w", err)
	}
	if err == nil {
		d.root = root
	}
	if d.boot, err = BootID(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close releases the folder. Open pods stay usable only for reading.
func (d *Dir) Close() error {
	if d.root == nil {
		return nil
	}
	return d.root.Close()
}

// Path returns the absolute path of the folder of all pods.
func (d *Dir) Path() string { return d.path }

// BootID returns the identity of the running boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Create makes a pod in the place InPrepare, locked by the returned Pod. name
// may be empty; otherwise it must be a ValidName and is claimed until the pod
// has ended, or the error is ErrNameInUse. Nothing is left behind on error.
func (d *Dir) Create(name string) (*Pod, error) {
	if name != "" {
		if err := ValidName(name); err != nil {
			return nil, err
		}
	}
	if err := d.ensure(); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		p, err := d.create(name)
		lost := errors.Is(err, unix.ENOENT) || errors.Is(err, ErrLocked) || errors.Is(err, ErrNotFound)
		if err == nil || !lost || attempt == createAttempts {
			return p, err
		}
	}
}

// create makes one attempt to create a pod.
func (d *Dir) create(name string) (_ *Pod, err error) {
	id := NewUUID()
	embryo := InEmbryo.String() + "/" + id.String()
	if err := unix.Mkdirat(int(d.root.Fd()), embryo, 0o700); err != nil {
		return nil, fmt.Errorf("create pod: %w", err)
	}
	p, err := d.openPod(InEmbryo, id)
	if err != nil {
		unix.Unlinkat(int(d.root.Fd()), embryo, unix.AT_REMOVEDIR)
		return nil, err
	}
	defer func() {
		if err != nil {
			p.discard()
		}
	}()
	if err := unix.Fchmod(p.fd, 0o700); err != nil { // whatever the umask
		return nil, fmt.Errorf("create pod: %w", err)
	}
	if err := p.Lock(); err != nil {
		return nil, err
	}
	if name != "" {
		if err := d.claimName(name, id); err != nil {
			return nil, err
		}
	}
	return p, p.move(InPrepare)
}

// discard removes what an attempt to create a pod has made. It does nothing to
// a pod that somebody else has locked.
func (p *Pod) discard() {
	if p.held != Nobody {
		p.ReleaseName()
		unix.Unlinkat(p.fd, lockFile, 0)
		unix.Unlinkat(int(p.dir.root.Fd()), p.name(), unix.AT_REMOVEDIR)
	}
	p.Close()
}

// ensure makes the folders that pods live in.
func (d *Dir) ensure() error {
	made := []string{d.path, filepath.Join(d.path, namesDir)}
	for _, name := range placeNames {
		made = append(made, filepath.Join(d.path, name))
	}
	if d.root != nil && d.complete() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return fmt.Errorf("create folder of pods: %w", err)
	}
	for _, path := range made {
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = os.Chmod(path, 0o700) // whatever the umask
		}
		if err != nil {
			return fmt.Errorf("create folder of pods: %w", err)
		}
	}
	root, err := os.OpenFile(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open folder of pods: %w", err)
	}
	if d.root != nil {
		d.root.Close()
	}
	d.root = root
	return nil
}

// complete reports whether all the folders exist.
func (d *Dir) complete() bool {
	for _, name := range append([]string{namesDir}, placeNames[:]...) {
		if unix.Faccessat(int(d.root.Fd()), name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return false
		}
	}
	return true
}

// openPod opens the pod id at a place. A missing one is unix.ENOENT.
func (d *Dir) openPod(place Place, id UUID) (*Pod, error) {
	p := &Pod{dir: d, id: id, place: place, lock: -1}
	fd, err := openBeneath(int(d.root.Fd()), p.name(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open pod %s: %w", id, err)
	}
	p.fd = fd
	return p, nil
}

// Get opens the pod id. The error is ErrNotFound when there is none.
func (d *Dir) Get(id UUID) (*Pod, error) {
	if d.root == nil {
		return nil, fmt.Errorf("pod %s: %w", id, ErrNotFound)
	}
	// Pods only move forward, in the order of this loop: none slips through.
	for place := range places {
		p, err := d.openPod(place, id)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("pod %s: %w", id, ErrNotFound)
}

// Find opens the pod that a user means: a UUID, a name, or the beginning of a
// UUID that fits one pod only (else *AmbiguousError). A name goes before a
// beginning. The error is ErrNotFound when nothing fits.
func (d *Dir) Find(word string) (*Pod, error) {
	if word == "" {
		return nil, errors.New("the UUID or name of a pod cannot be empty")
	}
	if id, err := ParseUUID(word); err == nil {
		return d.Get(id)
	}
	if d.root == nil {
		return nil, fmt.Errorf("find %q: %w", clip(word), ErrNotFound)
	}
	if ValidName(word) == nil {
		p, err := d.byName(word)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return p, err
		}
	}
	ids, err := d.withPrefix(word)
	switch {
	case err != nil:
		return nil, err
	case len(ids) == 0:
		return nil, fmt.Errorf("find %q: %w", clip(word), ErrNotFound)
	case len(ids) > 1:
		return nil, &AmbiguousError{Word: word, Matches: ids}
	}
	return d.Get(ids[0])
}

// withPrefix returns the pods whose UUID begins with word.
func (d *Dir) withPrefix(word string) ([]UUID, error) {
	if !isUUIDPrefix(word) {
		return nil, nil
	}
	var ids []UUID
	for place := range places {
		names, err := d.names(place.String())
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			id, err := ParseUUID(name)
			if err == nil && strings.HasPrefix(name, word) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// names lists a folder below the folder of pods, sorted. A missing one is empty.
func (d *Dir) names(folder string) ([]string, error) {
	fd, err := openBeneath(int(d.root.Fd()), folder, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pods/%s: %w", folder, err)
	}
	f := os.NewFile(uintptr(fd), folder)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list pods/%s: %w", folder, err)
	}
	slices.Sort(names)
	return names, nil
}
