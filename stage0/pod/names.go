package pod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxName bounds the name of a pod. With the UUID it must fit a file name, and
// it becomes the default of the host name.
const maxName = 63

// A claim on a name is an empty file pods/names/<name>.<uuid>. Since the UUID
// is in the file name, a claim appears whole and removing the own claim can
// never remove another's. Claims are made under a lock on the folder, after
// the claims of pods that are over have been removed.

// ValidName checks the name of a pod: letters, digits, dot, dash and underscore,
// beginning with a letter or digit, at most 63 characters, not the form of a UUID.
func ValidName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("pod name %q has %d characters, allowed are 1 to %d", clip(name), len(name), maxName)
	}
	for i, c := range name {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return fmt.Errorf("pod name %q has %q in it; allowed are letters, digits and, after the first, dot, dash, underscore", name, c)
		}
	}
	if _, err := ParseUUID(name); err == nil {
		return fmt.Errorf("pod name %q has the form of a UUID", name)
	}
	return nil
}

// claimFile is the file name of the claim of the pod id on name.
func claimFile(name string, id UUID) string { return name + "." + id.String() }

// parseClaim splits the file name of a claim.
func parseClaim(file string) (name string, id UUID, ok bool) {
	at := len(file) - uuidLen - 1
	if at < 1 || file[at] != '.' {
		return "", UUID{}, false
	}
	id, err := ParseUUID(file[at+1:])
	return file[:at], id, err == nil
}

// claimName claims name for the pod id or returns ErrNameInUse. Claims of pods
// that are over, or gone, are taken over.
func (d *Dir) claimName(name string, id UUID) error {
	folder, err := d.lockNames()
	if err != nil {
		return err
	}
	defer folder.Close()

	holders, err := d.claims(name)
	if err != nil {
		return err
	}
	for _, holder := range holders {
		needed, err := d.needsName(holder)
		if err != nil {
			return fmt.Errorf("claim name %q: %w", name, err)
		}
		if needed {
			return fmt.Errorf("claim name %q: %w by pod %s", name, ErrNameInUse, holder)
		}
		unix.Unlinkat(int(folder.Fd()), claimFile(name, holder), 0)
	}
	fd, err := openBeneath(int(folder.Fd()), claimFile(name, id), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("claim name %q: %w", name, err)
	}
	return unix.Close(fd)
}

// lockNames opens the folder of claims and locks it for a change. Closing it
// unlocks it.
func (d *Dir) lockNames() (*os.File, error) {
	fd, err := openBeneath(int(d.root.Fd()), namesDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open folder of pod names: %w", err)
	}
	f := os.NewFile(uintptr(fd), namesDir)
	// Held for a few system calls only, so waiting is short.
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock folder of pod names: %w", err)
	}
	return f, nil
}

// claims returns the pods that have a claim on name.
func (d *Dir) claims(name string) ([]UUID, error) {
	files, err := d.names(namesDir)
	if err != nil {
		return nil, err
	}
	var ids []UUID
	for _, file := range files {
		if n, id, ok := parseClaim(file); ok && n == name {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// needsName reports whether the pod id is one that is not over.
func (d *Dir) needsName(id UUID) (bool, error) {
	p, err := d.Get(id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer p.Close()
	s, err := p.State()
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case s == Embryo:
		holder, err := p.Holder() // the claim is made while the pod is an embryo
		return holder == Runner, err
	}
	return !s.Over() && s != Deleting, err
}

// byName opens the pod with a claim on name. Of several, which only a crash can
// leave behind, it is the one that is not over.
func (d *Dir) byName(name string) (*Pod, error) {
	ids, err := d.claims(name)
	if err != nil {
		return nil, err
	}
	var found *Pod
	for _, id := range ids {
		p, err := d.Get(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if needed, err := d.needsName(id); found == nil || err == nil && needed {
			if found != nil {
				found.Close()
			}
			found = p
			continue
		}
		p.Close()
	}
	if found == nil {
		return nil, fmt.Errorf("pod %q: %w", name, ErrNotFound)
	}
	return found, nil
}

// Claim returns the absolute path of the file that claims name for this pod.
// Removing it releases the name; that is safe at any time.
func (p *Pod) Claim(name string) string {
	return filepath.Join(p.dir.path, namesDir, claimFile(name, p.id))
}

// HasName reports whether name is claimed for this pod, so that it is found by
// it. The claim of a pod that is over may have become another's.
func (p *Pod) HasName(name string) bool {
	return unix.Faccessat(int(p.dir.root.Fd()), namesDir+"/"+claimFile(name, p.id), unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// ReleaseName removes the claim of the pod on its name, if it has one. The pod
// cannot be found by its name afterwards.
func (p *Pod) ReleaseName() error {
	files, err := p.dir.names(namesDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		if strings.HasSuffix(file, "."+p.id.String()) {
			err := unix.Unlinkat(int(p.dir.root.Fd()), namesDir+"/"+file, 0)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("release pod name: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// SweepNames removes the claims of pods that do not exist, which a crash in
// between can leave behind, and returns the names.
func (d *Dir) SweepNames() ([]string, error) {
	if d.root == nil {
		return nil, nil
	}
	folder, err := d.lockNames()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer folder.Close()

	files, err := d.names(namesDir)
	if err != nil {
		return nil, err
	}
	var swept []string
	for _, file := range files {
		name, id, ok := parseClaim(file)
		if !ok {
			continue
		}
		p, err := d.Get(id)
		if err == nil {
			p.Close()
		}
		if errors.Is(err, ErrNotFound) && unix.Unlinkat(int(folder.Fd()), file, 0) == nil {
			swept = append(swept, name)
		}
	}
	return swept, nil
}
