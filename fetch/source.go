package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/image"
)

// source is where rkt-fetch is to get an image from.
type source struct {
	request wire.Source
	file    *os.File // of a local image
	owned   bool     // file is closed with the source
	stamp   string   // state of the local file; "" for a registry
}

func (s *source) close() {
	if s.owned {
		s.file.Close()
	}
}

// openSource opens what ref names, or finds out how to reach its registry.
func (f *Fetcher) openSource(ctx context.Context, ref image.Ref) (*source, error) {
	if ref.Transport != image.Registry {
		return f.openLocal(ref)
	}
	ends, err := f.o.Registries.Endpoints(ctx, ref.Host, ref.Repository, !ref.Digest.IsZero())
	if err != nil {
		return nil, err
	}
	return &source{request: wire.Source{
		Kind: wire.Registry, Tag: ref.Tag, Digest: ref.Digest.String(), Repository: ref.Repository, Endpoints: ends,
	}}, nil
}

// openLocal opens a local image. It never waits: what is neither a folder nor a
// file is refused, but for stdin, which may be a pipe.
func (f *Fetcher) openLocal(ref image.Ref) (*source, error) {
	s := &source{request: wire.Source{Tag: ref.Tag, Digest: ref.Digest.String()}}
	if ref.Transport == image.Stdin {
		s.request.Kind, s.file, s.stamp = wire.AnyArchive, f.o.Stdin, "stdin"
		return s, checkStdin(f.o.Stdin)
	}
	file, err := os.OpenFile(ref.Path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, coded(wire.CodeNotFound, "no such file or folder: %q", ref.Path)
	}
	if err != nil {
		return nil, err
	}
	s.file, s.owned = file, true
	info, err := file.Stat()
	if err == nil {
		s.request.Kind, err = kindOf(ref.Transport, info.Mode())
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("open %q: %w", ref.Path, err)
	}
	s.stamp = stamp(ref)
	return s, nil
}

func checkStdin(f *os.File) error {
	if f == nil {
		return errors.New("there is no stdin to read an image from")
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
		return errors.New("stdin is a terminal: pipe an image archive into it")
	}
	return nil
}

// kindOf tells what to make of a file of that mode.
func kindOf(t image.Transport, mode os.FileMode) (wire.Kind, error) {
	switch {
	case mode.IsDir() && (t == image.Layout || t == image.Path):
		return wire.Layout, nil
	case mode.IsDir():
		return "", errors.New("it is a folder, not an archive")
	case !mode.IsRegular():
		return "", errors.New("it is neither a file nor a folder")
	}
	switch t {
	case image.Layout:
		return "", errors.New("it is a file, not the folder of an OCI image layout")
	case image.OCIArchive:
		return wire.OCIArchive, nil
	case image.DockerArchive:
		return wire.DockerArchive, nil
	}
	return wire.AnyArchive, nil
}

// stamp identifies the state of the file that a local reference names, or of the
// index of a layout: all else in a layout is named by digest. Any write changes
// the time of the last change, which nobody can set. "" = it cannot be read.
func stamp(ref image.Ref) string {
	var st unix.Stat_t
	path := ref.Path
	if err := unix.Stat(path, &st); err != nil {
		return ""
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		path = filepath.Join(path, "index.json")
		if err := unix.Stat(path, &st); err != nil {
			return ""
		}
	}
	return fmt.Sprintf("%d:%d %d %d.%09d", st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec)
}
