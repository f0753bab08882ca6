package rootfs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/image/layer"
	"rkt/image/rootfs/erofs"
)

// The tests mount; without root they say so.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
}

// scratch is a folder on a filesystem that is no tmpfs and no overlay.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "rkt-rootfs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// factsOf writes the facts of a tar as rkt-fetch would.
func factsOf(t testing.TB, tarPath string) []byte {
	t.Helper()
	f, err := os.Open(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var facts bytes.Buffer
	w := layer.NewWriter(&facts)
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			t.Fatal(err)
		}
		if fact := factOf(t, h, uint64(offset)); fact != nil {
			if err := w.Fact(fact); err != nil {
				t.Fatal(err)
			}
		}
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(layer.Summary{TarSize: uint64(st.Size())}); err != nil {
		t.Fatal(err)
	}
	return facts.Bytes()
}

func factOf(t testing.TB, h *tar.Header, offset uint64) *layer.Fact {
	t.Helper()
	f := &layer.Fact{
		Path: path.Clean(h.Name), Mode: uint16(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid),
		Seconds: h.ModTime.Unix(), Nanos: uint32(h.ModTime.Nanosecond()),
	}
	dir, base := path.Split(f.Path)
	if base == ".wh..wh..opq" {
		return &layer.Fact{Path: path.Clean(dir), Kind: layer.Opaque}
	}
	if rest, ok := strings.CutPrefix(base, ".wh."); ok {
		return &layer.Fact{Path: path.Join(dir, rest), Kind: layer.Whiteout}
	}
	for name, value := range h.PAXRecords {
		if x, ok := strings.CutPrefix(name, "SCHILY.xattr."); ok && layer.AllowedXattr(x) {
			f.Xattrs = append(f.Xattrs, layer.Xattr{Name: x, Value: []byte(value)})
		}
	}
	slices.SortFunc(f.Xattrs, func(a, b layer.Xattr) int { return strings.Compare(a.Name, b.Name) })
	switch h.Typeflag {
	case tar.TypeDir:
		f.Kind = layer.Dir
	case tar.TypeReg, tar.TypeGNUSparse:
		f.Kind, f.Size = layer.Regular, uint64(h.Size)
		f.Extents = extentsOf(t, h, offset)
	case tar.TypeSymlink:
		f.Kind, f.Link = layer.Symlink, h.Linkname
	case tar.TypeLink:
		return &layer.Fact{Path: f.Path, Kind: layer.Hardlink, Link: path.Clean(h.Linkname)}
	case tar.TypeFifo:
		f.Kind = layer.Fifo
	default:
		return nil
	}
	return f
}

// extentsOf reads the map of sparse files of format 0.1; others are plain.
func extentsOf(t testing.TB, h *tar.Header, offset uint64) []layer.Extent {
	t.Helper()
	sparse := h.PAXRecords["GNU.sparse.map"]
	if sparse == "" {
		if h.Size == 0 {
			return nil
		}
		return []layer.Extent{{Offset: offset, Length: uint64(h.Size)}}
	}
	var extents []layer.Extent
	numbers := strings.Split(sparse, ",")
	for ; len(numbers) >= 2; numbers = numbers[2:] {
		logical, err1 := strconv.ParseUint(numbers[0], 10, 64)
		length, err2 := strconv.ParseUint(numbers[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if length > 0 {
			extents = append(extents, layer.Extent{Logical: logical, Offset: offset, Length: length})
			offset += length
		}
	}
	return extents
}

// index writes the index of a tar from its facts and returns its path.
func index(t testing.TB, tarPath string, facts []byte) string {
	t.Helper()
	f, err := os.Open(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layer.Build(layer.NewReader(bytes.NewReader(facts)), uint64(st.Size()))
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		t.Fatal(err)
	}
	writeIndex(t, tarPath+".erofs", tree, f, uint64(st.Size()), [32]byte(hash.Sum(nil)))
	return tarPath + ".erofs"
}

func writeIndex(t testing.TB, path string, tree *layer.Tree, tarFile io.ReaderAt, size uint64, digest [32]byte) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := erofs.Write(t.Context(), out, tree, erofs.Tar{ReaderAt: tarFile, Size: size, Digest: digest}); err != nil {
		t.Fatal(err)
	}
}

// mounted mounts a layer attached nowhere and returns a path that leads into it.
func mounted(t testing.TB, driver string, directIO bool, tarPath, indexPath string) string {
	t.Helper()
	if driver == DriverErofs {
		needFileMounts(t)
	}
	s := source{}
	var err error
	if s.tar, err = os.Open(tarPath); err == nil {
		s.index, err = os.Open(indexPath)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := mount(driver, directIO, s)
	if err != nil {
		t.Fatalf("mount with %s: %v", driver, err)
	}
	t.Cleanup(func() { m.Close() })
	return fdPath(m) + "/."
}

// describe lists everything that a tree shows, one line for each name.
func describe(t testing.TB, root string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", rel, err)
		}
		line := fmt.Sprintf("mode=%o owner=%d:%d nlink=%d mtime=%d.%09d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec)
		if d.Type() != 0 {
			line += " listed as " + d.Type().String() // what getdents says, unlike stat
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			line += fmt.Sprintf(" dev=%d", st.Rdev)
		}
		more, err := contentOf(p, &st)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		lines[rel] = line + more + xattrsAt(t, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func contentOf(p string, st *unix.Stat_t) (string, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f, err := os.Open(p)
		if err != nil {
			return "", err
		}
		defer f.Close()
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err == nil && n != st.Size {
			err = fmt.Errorf("read %d of %d bytes", n, st.Size)
		}
		return fmt.Sprintf(" size=%d sha256=%x", st.Size, h.Sum(nil)), err
	case unix.S_IFLNK:
		link, err := os.Readlink(p)
		return fmt.Sprintf(" size=%d link=%q", st.Size, link), err
	}
	return "", nil
}

func xattrsAt(t testing.TB, p string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		t.Fatalf("list xattrs of %s: %v", p, err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			t.Fatalf("get xattr %s of %s: %v", name, p, err)
		}
		fmt.Fprintf(&out, " %s=%x", name, sha256.Sum256(value[:n]))
	}
	return out.String()
}

// sameTree compares what two trees show.
func sameTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	for p, line := range want {
		if got[p] != line {
			t.Errorf("%q\n got %s\nwant %s", p, got[p], line)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%q is there and should not", p)
		}
	}
}
