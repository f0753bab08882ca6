package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/image/layer"
	"rkt/image/rootfs/erofs"
	"rkt/internal/atomicfile"
	"rkt/internal/safepath"
)

// choice is the driver of a store and why it is that one.
type choice struct {
	Driver   string `json:"driver"`
	DirectIO bool   `json:"directIO,omitempty"`
	Why      string `json:"why"`
}

// probeFile is the record of what was found out, in the folder of the store's
// data: drivers are a matter of its filesystem and of the running kernel.
const probeFile = "driver.json"

// probed is the content of probeFile. It is true for one kernel and one boot.
type probed struct {
	Version int      `json:"version"`
	Kernel  string   `json:"kernel"`
	Boot    string   `json:"boot"`
	Results []result `json:"results"`
}

// result tells whether a driver works.
type result struct {
	Driver   string `json:"driver"`
	Error    string `json:"error,omitempty"`
	DirectIO bool   `json:"directIO,omitempty"`
}

const probeVersion = 1

// choose returns the driver that was asked for, or the first that works.
func choose(ctx context.Context, o Options) (choice, error) {
	drivers := []string{DriverErofs, DriverLoop, DriverDir}
	if o.Driver != "" && !slices.Contains(drivers, o.Driver) {
		return choice{}, fmt.Errorf("unknown layer driver %q, known are %s", o.Driver, strings.Join(drivers, ", "))
	}
	results, err := findOut(ctx, o.Stores.CAS())
	if err != nil {
		return choice{}, fmt.Errorf("find a driver for layers: %w", err)
	}
	var tried []string
	for _, r := range results {
		switch {
		case o.Driver != "" && o.Driver != r.Driver:
		case r.Error == "":
			return choice{Driver: r.Driver, DirectIO: r.DirectIO, Why: r.why(o.Driver != "", tried)}, nil
		case o.Driver != "":
			return choice{}, fmt.Errorf("layer driver %q does not work here: %s", r.Driver, r.Error)
		}
		tried = append(tried, r.Driver+": "+r.Error)
	}
	return choice{}, fmt.Errorf("no driver for layers works here: %s", strings.Join(tried, "; "))
}

func (r result) why(asked bool, tried []string) string {
	var why string
	switch {
	case asked:
		why = "asked for"
	case len(tried) == 0:
		why = "the best one, and it works"
	default:
		why = "others do not work (" + strings.Join(tried, "; ") + ")"
	}
	if r.DirectIO {
		why += "; with direct I/O"
	}
	return why
}

// findOut returns what is recorded about this boot, or tries all drivers.
func findOut(ctx context.Context, store *cas.Store) ([]result, error) {
	now, err := thisBoot()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(store.Dir())
	var old probed
	b, err := os.ReadFile(filepath.Join(dir, probeFile))
	if err == nil && json.Unmarshal(b, &old) == nil && old.Version == now.Version && old.Kernel == now.Kernel && old.Boot == now.Boot {
		return old.Results, nil
	}
	if now.Results, err = probe(ctx, store); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(now.Results, func(r result) bool { return r.Error == "" }) {
		return now.Results, nil // the fault is the caller's rights; the next one may have more
	}
	if b, err = json.Marshal(now); err != nil {
		return nil, fmt.Errorf("internal error: encode %s: %w", probeFile, err)
	}
	return now.Results, atomicfile.Write(dir, probeFile, append(b, '\n'), 0o600, false)
}

func thisBoot() (probed, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return probed{}, fmt.Errorf("uname: %w", err)
	}
	boot, err := bootID()
	return probed{Version: probeVersion, Kernel: unix.ByteSliceToString(name.Release[:]), Boot: boot}, err
}

// probeContent is the file of the probe. With its header before it, it begins
// at a block of 512 bytes that is at none of 4096: what direct I/O cannot do on
// a disk with larger blocks.
func probeContent() []byte { return bytes.Repeat([]byte("rkt probes what mounts here.\n"), 400) }

const probeName = "probe"

// probe tries all drivers with a layer of one file in the store's filesystem.
func probe(ctx context.Context, store *cas.Store) ([]result, error) {
	in, err := store.Ingest(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	from, err := probeLayer(ctx, in.Dir())
	if err != nil {
		return nil, err
	}
	defer from.Close()
	var results []result
	for _, driver := range []string{DriverErofs, DriverLoop, DriverDir} {
		r := result{Driver: driver}
		if driver != DriverDir {
			r.DirectIO = try(driver, true, from) == nil
		}
		if !r.DirectIO {
			if err := try(driver, false, from); err != nil {
				r.Error = err.Error()
			}
		}
		results = append(results, r)
	}
	return results, nil
}

// try mounts the probe and reads its file.
func try(driver string, directIO bool, from source) error {
	m, err := mount(driver, directIO, from)
	if err != nil {
		return err
	}
	defer m.Close()
	f, err := safepath.OpenBeneath(m, probeName, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, probeContent()) {
		return errors.New("a mounted file has wrong content")
	}
	return nil
}

// probeLayer makes a layer of one file, in the forms of all drivers.
func probeLayer(ctx context.Context, dir *os.File) (from source, err error) {
	defer func() {
		if err != nil {
			from.Close()
		}
	}()
	content := probeContent()
	var archive, facts bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: probeName, Mode: 0o600, Size: int64(len(content))}); err != nil {
		return from, err
	}
	offset := uint64(archive.Len())
	if _, err := w.Write(content); err != nil {
		return from, err
	}
	if err := w.Close(); err != nil {
		return from, err
	}
	size := uint64(archive.Len())
	fw := layer.NewWriter(&facts)
	err = fw.Fact(&layer.Fact{Path: probeName, Kind: layer.Regular, Mode: 0o600, Size: uint64(len(content)),
		Extents: []layer.Extent{{Offset: offset, Length: uint64(len(content))}}})
	if err := errors.Join(err, fw.Close(layer.Summary{TarSize: size})); err != nil {
		return from, err
	}
	tree, err := layer.Build(layer.NewReader(&facts), size)
	if err != nil {
		return from, err
	}
	return probeFiles(ctx, dir, archive.Bytes(), tree)
}

func probeFiles(ctx context.Context, dir *os.File, archive []byte, tree *layer.Tree) (from source, err error) {
	if err := create(dir, "tar", func(f *os.File) error { return write(f, archive) }); err != nil {
		return from, err
	}
	if from.tar, err = safepath.OpenBeneath(dir, "tar", unix.O_RDONLY, 0); err != nil {
		return from, err
	}
	err = create(dir, "index", func(f *os.File) error {
		return erofs.Write(ctx, f, tree, erofs.Tar{ReaderAt: from.tar, Size: uint64(len(archive)), Digest: sha256.Sum256(archive)})
	})
	if err != nil {
		return from, err
	}
	if from.index, err = safepath.OpenBeneath(dir, "index", unix.O_RDONLY, 0); err != nil {
		return from, err
	}
	if err := unix.Mkdirat(int(dir.Fd()), treeDir, 0o700); err != nil {
		return from, err
	}
	if from.root, err = safepath.OpenBeneath(dir, treeDir, unix.O_DIRECTORY|unix.O_RDONLY, 0); err != nil {
		return from, err
	}
	return from, create(from.root, probeName, func(f *os.File) error { return write(f, probeContent()) })
}

func write(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return err
}
