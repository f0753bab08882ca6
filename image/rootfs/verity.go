package rootfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

// errIO is what reading a block gives that fs-verity, or a disk, refuses.
var errIO error = unix.EIO

// NoVerityError reports a store on a filesystem without fs-verity.
type NoVerityError struct {
	Dir string
	Err error
}

func (e *NoVerityError) Error() string {
	return fmt.Sprintf("integrity tier \"kernel\": the filesystem of %q has no fs-verity: %v", e.Dir, e.Err)
}

func (e *NoVerityError) Unwrap() error { return e.Err }

// Hint tells the two ways out.
func (e *NoVerityError) Hint() string {
	return "tune2fs -O verity DEVICE for an ext4, or set \"verify\" to boot or always in /etc/rkt/defaults.d"
}

// kindVerity is the record of the fs-verity digests of a layer's files.
const kindVerity = "verity-1"

// verityName is that record in an ingest.
const verityName = "verity"

// verifyKernel makes sure that the kernel checks what is read of the layer, and
// that it checks for the right content: the files are hashed once, sealed, and
// measured; later measures must be the same.
func (l *Layers) verifyKernel(ctx context.Context, store *cas.Store, d cas.Digest, from *source, m *meter) error {
	if from.derived != nil {
		return errors.New(`integrity tier "kernel" needs the driver erofs or erofs-loop: an unpacked layer is many files and their names`)
	}
	want, err := l.readVerity(store, d)
	if errors.Is(err, cas.ErrNotFound) {
		return l.sealLayer(ctx, store, d, from, m)
	}
	if err != nil {
		return err
	}
	got, err := measureAll(from.files())
	if err != nil && !errors.Is(err, unix.ENODATA) {
		return err
	}
	if err != nil || got != want {
		// Other files than those that were sealed: restored from a copy, or not ours.
		if err := l.forgetVerity(ctx, d); err != nil {
			return err
		}
		return l.sealLayer(ctx, store, d, from, m)
	}
	m.add(sizeOf(from.tar))
	return nil
}

// sealLayer seals the files of the layer, hashes them through the seal, and
// records what was measured. What is sealed can change no more, so what was
// hashed after it stays true.
func (l *Layers) sealLayer(ctx context.Context, store *cas.Store, d cas.Digest, from *source, m *meter) error {
	for _, f := range from.files() {
		if err := enableVerity(f); err != nil {
			return &NoVerityError{Dir: store.Dir(), Err: err}
		}
	}
	var err error
	if from.print, err = fingerprint(from.files()...); err != nil { // the seal has changed it
		return err
	}
	if err := from.verify(ctx, d, m); err != nil {
		return err
	}
	text, err := measureAll(from.files())
	if err != nil {
		return err
	}
	in, err := l.o.Stores.CAS().Ingest(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	err = create(in.Dir(), verityName, func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
	if err != nil {
		return err
	}
	return in.CommitDerived(ctx, kindVerity, d, verityName)
}

func (l *Layers) forgetVerity(ctx context.Context, d cas.Digest) error {
	return l.o.Stores.CAS().RemoveDerived(ctx, kindVerity, d)
}

// readVerity reads the record of a layer; the error may be cas.ErrNotFound.
func (l *Layers) readVerity(store *cas.Store, d cas.Digest) (string, error) {
	f, err := l.findDerived(store, kindVerity, d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(b), err
}

// measureAll returns a line for each file.
func measureAll(files []*os.File) (string, error) {
	var b strings.Builder
	for _, f := range files {
		digest, err := measureVerity(f)
		if err != nil {
			return "", err
		}
		b.WriteString(digest + "\n")
	}
	return b.String(), nil
}

// enableVerity seals a file: from now on nobody can write it, and the kernel
// compares each block with a hash tree when it reads it. Sealed already is success.
func enableVerity(f *os.File) error {
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: unix.FS_VERITY_HASH_ALG_SHA256, Block_size: 4096}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 && errno != unix.EEXIST {
		return os.NewSyscallError("FS_IOC_ENABLE_VERITY", errno)
	}
	return nil
}

// measureVerity returns the digest that the kernel holds a file to; the error is
// unix.ENODATA when it is not sealed.
func measureVerity(f *os.File) (string, error) {
	var arg struct {
		head   unix.FsverityDigest
		digest [64]byte
	}
	arg.head.Size = uint16(len(arg.digest))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return "", os.NewSyscallError("FS_IOC_MEASURE_VERITY", errno)
	}
	size := min(int(arg.head.Size), len(arg.digest))
	return fmt.Sprintf("%d:%s", arg.head.Algorithm, hex.EncodeToString(arg.digest[:size])), nil
}
