package fetch

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/escape"
)

// room refuses an image whose layers, compressed as they are, do not even fit.
func (t *transfer) room(want []bool) error {
	var need uint64
	for i, w := range want {
		if w {
			need += uint64(t.got.manifest.Layers[i].Size) // bounded by image.ParseManifest
		}
	}
	free, err := free(t.in.Path())
	if err != nil || need <= free {
		return err
	}
	return coded(wire.CodeSpace, "%d MiB are free and the image has more than %d MiB to bring", free>>20, need>>20)
}

// free returns how many bytes can be written to the filesystem of path.
func free(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("find free space of %q: %w", path, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// spaceError tells which filesystem is full.
func (f *Fetcher) spaceError(err error) error {
	dir := f.o.Store.CAS().Dir()
	where := "the filesystem of " + dir
	if mount := mountOf(dir); mount != "" {
		where = "the filesystem mounted on " + escape.Text(mount)
	}
	return fmt.Errorf("no space left on %s: %w", where, err)
}

// mountOf returns where the filesystem of path is mounted; "" = unknown.
func mountOf(path string) string {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return ""
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	id := strconv.FormatUint(st.Mnt_id, 10)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[0] == id {
			return fields[4]
		}
	}
	return ""
}
