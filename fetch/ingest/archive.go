package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/tarball"
	"rkt/fetch/wire"
	"rkt/image"
)

const (
	maxMembers   = 64 << 10 // files of an archive
	maxAliases   = 8        // links that lead to one file
	memberFormat = "source-%d"
)

// archive is a tar in which an image lies. One that is a plain file is read in
// place; what comes through a pipe, or is compressed, is laid into the spool
// file by file while it is read.
type archive struct {
	out     spool
	tar     *os.File // nil when the members are in the spool
	members map[string]*member
	aliases map[string]string // links by their path

	budget *budget
	count  int      // of files made in the spool
	file   *os.File // of the member whose data comes
	to     *sparseWriter
}

// member is a file of an archive.
type member struct {
	offset, size int64

	mu      sync.Mutex
	spooled string // its name in the spool, "" once it was given away
}

// openArchive reads what is in the archive, which may be a pipe.
func openArchive(ctx context.Context, f *os.File, out spool) (*archive, error) {
	a := &archive{out: out, members: map[string]*member{}, aliases: map[string]string{}, budget: newBudget(maxTars)}
	err := a.read(ctx, f)
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *archive) read(ctx context.Context, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat archive: %w", err)
	}
	r := bufio.NewReaderSize(f, plainSize)
	magic, err := r.Peek(zstd.HeaderMaxSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read archive: %w", err)
	}
	if len(magic) == 0 {
		return errors.New("it is empty: there is not one byte")
	}
	packing, err := packing(magic)
	if err != nil {
		return err
	}
	if packing == image.Plain && info.Mode().IsRegular() {
		a.tar = f
		return tarball.ReadFile(f, a)
	}
	return a.stream(ctx, r, packing)
}

// stream reads the archive from front to back.
func (a *archive) stream(ctx context.Context, r *bufio.Reader, packing image.Compression) error {
	z, err := newDecoder(r, packing, func(int64) error { return nil })
	if err != nil {
		return err
	}
	defer z.Close()
	parser := tarball.NewParser(a)
	buf := make([]byte, plainSize)
	for {
		n, err := fill(z, buf)
		if _, err := parser.Write(buf[:n]); err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == io.EOF:
			return errors.Join(parser.Close(), a.finish())
		case err != nil && packing != image.Plain:
			return packed(err)
		case err != nil:
			return fmt.Errorf("read archive: %w", err)
		}
	}
}

// Entry implements tarball.Handler.
func (a *archive) Entry(e *tarball.Entry) (keep bool, err error) {
	if err := a.finish(); err != nil {
		return false, err
	}
	name, _, err := tarball.CleanName(e.Name)
	if err != nil {
		return false, err
	}
	if len(a.members)+len(a.aliases) >= maxMembers {
		return false, fault.New(wire.CodeTooLarge, "archive has more than %d files", maxMembers)
	}
	switch {
	case e.IsLink():
		target, err := aliasTarget(name, e)
		if err != nil {
			return false, err
		}
		delete(a.members, name)
		a.aliases[name] = target
		return false, nil
	case !e.IsRegular():
		return false, nil
	case e.Sparse:
		return false, fault.New(wire.CodeType, "file %.200q of the archive is sparse", name)
	}
	m := &member{offset: e.Offset, size: e.Size}
	if old := a.members[name]; old != nil && old.spooled != "" {
		if err := a.out.remove(old.spooled); err != nil {
			return false, err
		}
	}
	delete(a.aliases, name)
	a.members[name] = m
	if a.tar != nil {
		return false, nil
	}
	return true, a.spool(m)
}

// aliasTarget is the path that a link leads to, inside the archive.
func aliasTarget(name string, e *tarball.Entry) (string, error) {
	target := e.Link
	if e.IsSymlink() {
		if strings.HasPrefix(target, "/") {
			return "", fault.New(wire.CodeType, "link %.200q of the archive leads out of it", name)
		}
		// Docker links a layer that several images have to where it comes first.
		target = path.Join(path.Dir(name), target)
	}
	target, _, err := tarball.CleanName(target)
	return target, err
}

// spool begins the file of a member in the spool.
func (a *archive) spool(m *member) (err error) {
	if err := a.budget.take(m.size); err != nil {
		return err
	}
	m.spooled = fmt.Sprintf(memberFormat, a.count)
	a.count++
	if a.file, err = a.out.create(m.spooled); err != nil {
		return err
	}
	a.to = &sparseWriter{f: a.file}
	return nil
}

// Data implements tarball.Handler.
func (a *archive) Data(p []byte) error {
	_, err := a.to.Write(p)
	return err
}

// finish ends the file that is being written, if one is.
func (a *archive) finish() error {
	if a.file == nil {
		return nil
	}
	err := errors.Join(a.to.finish(), a.file.Close())
	a.file, a.to = nil, nil
	return err
}

// close removes what is in the spool.
func (a *archive) close() {
	_ = a.finish()
	for _, m := range a.members {
		if m.spooled != "" {
			_ = a.out.remove(m.spooled) // the folder goes as a whole, too
		}
	}
}

func (a *archive) has(path string) bool { return a.find(path) != nil }

// find follows links to a member.
func (a *archive) find(path string) *member {
	for range maxAliases {
		if m := a.members[path]; m != nil {
			return m
		}
		path = a.aliases[path]
	}
	return nil
}

func (a *archive) open(path string) (*content, error) {
	m := a.find(path)
	if m == nil {
		return nil, fault.New(wire.CodeNotFound, "the archive has no %.200q", path)
	}
	if a.tar != nil {
		return &content{Reader: io.NewSectionReader(a.tar, m.offset, m.size), Closer: io.NopCloser(nil), size: m.size}, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spooled == "" {
		return nil, fault.New(wire.CodeDigest, "%.200q of the archive is more than one layer", path)
	}
	f, err := a.out.open(m.spooled)
	if err != nil {
		return nil, err
	}
	return &content{Reader: f, Closer: f, size: m.size}, nil
}

// adopt makes a member that lies in the spool, which nobody else needs, the file
// name there.
func (a *archive) adopt(path string, size int64, name string) error {
	m := a.find(path)
	if m == nil || m.size != size {
		return fault.New(wire.CodeDigest, "the archive has no %.200q of %d bytes", path, size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spooled == "" {
		return fault.New(wire.CodeDigest, "%.200q of the archive is more than one layer", path)
	}
	from := m.spooled
	m.spooled = "" // it is not ours to remove any more
	return a.out.rename(from, name)
}
