package cas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/internal/mutant"
	"rkt/internal/safepath"
)

// MismatchError reports bytes that do not have the digest they should have.
type MismatchError struct{ Got, Want Digest }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("content has digest %s, want %s", e.Got, e.Want)
}

// errWriter reports a file that somebody may still change.
var errWriter = errors.New("is still open for writing")

// Commit makes the file name of the folder the blob want, durably, and returns
// its size. The file must be complete: nobody has it open for writing. It is
// taken out of the folder, made ours and hashed; when the bytes are others, the
// error is a *MismatchError and the file is gone. A blob that is there already
// is success.
func (in *Ingest) Commit(ctx context.Context, name string, want Digest) (size int64, err error) {
	taken, err := in.take(name)
	if err != nil {
		return 0, fmt.Errorf("commit blob %s: %w", want, err)
	}
	defer func() { err = in.dropOnError(err, taken) }()
	size, err = in.seal(ctx, taken, want)
	if err != nil {
		return 0, fmt.Errorf("commit blob %s: %w", want, err)
	}
	if err := in.place(ctx, want, taken, blobPath(want)); err != nil {
		return 0, fmt.Errorf("commit blob %s: %w", want, err)
	}
	// Also when it was there: whoever put it there may not have come this far.
	if err := atomicfile.SyncDir(filepath.Join(in.s.dir, blobsDir)); err != nil {
		return 0, fmt.Errorf("commit blob %s: %w", want, err)
	}
	return size, nil
}

// seal proves that the taken file can change no more and has the digest want,
// and brings its data to the disk.
func (in *Ingest) seal(ctx context.Context, taken string, want Digest) (int64, error) {
	f, err := in.openTaken(taken, unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer func() { f.Close() }()
	err = Seal(f)
	if errors.Is(err, errors.ErrUnsupported) {
		f, err = in.copyTaken(ctx, f, taken)
	}
	if err != nil {
		return 0, err
	}
	// The disk writes while we hash. A hint: Sync tells what failed.
	if !mutant.On("nofsync") {
		unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	got, size, err := hash(ctx, f)
	if err != nil {
		return 0, err
	}
	if got != want && !mutant.On("nodiffid") {
		return 0, &MismatchError{Got: got, Want: want}
	}
	if mutant.On("nofsync") {
		return size, nil
	}
	return size, f.Sync()
}

// forkPatience is how long a file may still have a writer: a process that this
// one starts has, between fork and exec, all the files that this one has.
const forkPatience = 2 * time.Second

// Seal makes a file ours so that nobody can open it for writing any more, and
// proves that nobody has: a read lease is given only on a file without writers
// (fcntl(2)), writable mappings included. f must not be open for writing itself.
// The error says so, or is errors.ErrUnsupported on a filesystem without leases.
func Seal(f *os.File) error {
	var st unix.Stat_t
	fd := int(f.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return fmt.Errorf("%q is not a plain file with one name", f.Name())
	}
	if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
		if err := f.Chown(os.Geteuid(), os.Getegid()); err != nil {
			return err
		}
	}
	if err := f.Chmod(0o400); err != nil {
		return err
	}
	for deadline := time.Now().Add(forkPatience); ; time.Sleep(time.Millisecond) {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
		switch err {
		case nil:
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
			return os.NewSyscallError("fcntl", err)
		case unix.EAGAIN:
			if time.Now().Before(deadline) {
				continue
			}
			return fmt.Errorf("%q %w", f.Name(), errWriter)
		case unix.EINVAL, unix.EOPNOTSUPP, unix.ENOLCK, unix.ENOSYS:
			return errors.ErrUnsupported
		}
		return os.NewSyscallError("fcntl", err)
	}
}

// copyTaken replaces the taken file f, which it closes, by a copy of ours that
// nobody else has ever seen.
func (in *Ingest) copyTaken(ctx context.Context, f *os.File, taken string) (*os.File, error) {
	defer f.Close()
	name := taken + ".copy"
	w, err := os.OpenFile(in.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o400)
	if err != nil {
		return nil, err
	}
	_, err = io.CopyBuffer(w, &contextReader{ctx, f}, make([]byte, chunk))
	if err == nil {
		err = w.Chmod(0o400)
	}
	if err == nil {
		err = os.Rename(in.path(name), in.path(taken))
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// contextReader ends reading with the context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// place moves what was taken to its path in the store, protected by a mark from
// the moment it can be seen. What is there already stays, unless it is plainly
// not the same: then it is replaced, which no reader of the old one notices.
func (in *Ingest) place(ctx context.Context, d Digest, taken, to string) error {
	release, err := in.s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := in.mark(d); err != nil {
		return err
	}
	from := in.path(taken)
	root := int(in.s.root.Fd())
	err = unix.Renameat2(unix.AT_FDCWD, from, root, to, unix.RENAME_NOREPLACE)
	if err != unix.EEXIST {
		return os.NewSyscallError("renameat2", err)
	}
	var ours, theirs unix.Stat_t
	if err := unix.Lstat(from, &ours); err != nil {
		return os.NewSyscallError("lstat", err)
	}
	if err := unix.Fstatat(root, to, &theirs, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if ours.Mode&unix.S_IFMT != unix.S_IFDIR && (ours.Mode != theirs.Mode || ours.Uid != theirs.Uid || ours.Size != theirs.Size) {
		return os.NewSyscallError("renameat", unix.Renameat(unix.AT_FDCWD, from, root, to))
	}
	return safepath.RemoveAll(in.lock.File(), taken)
}
