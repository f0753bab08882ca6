package tarball

import (
	"fmt"
	"strings"

	"rkt/image/layer"
	"rkt/internal/mutant"
)

// Facts takes what a Scanner finds; *layer.Writer is one. A fact is good until
// the call returns.
type Facts interface {
	Fact(*layer.Fact) error
	Accounts(*layer.Accounts) error
	Close(layer.Summary) error
}

// Scanner reads the tar of a layer and says what is in it. Give it the tar by
// Write and Skip, then call Close.
type Scanner struct {
	parser  *Parser
	to      Facts
	fact    layer.Fact
	summary layer.Summary
	files   accountFiles
	// dropped are the paths of devices: a hard link to one is one too.
	dropped map[string]struct{}
}

// NewScanner returns a scanner that writes facts to to.
func NewScanner(to Facts) *Scanner {
	s := &Scanner{to: to}
	s.parser = NewParser((*scanHandler)(s))
	return s
}

// Write takes the next bytes of the tar. The error is layer.ErrMalformed for a
// tar that is broken or hostile, or comes from Facts. It is final.
func (s *Scanner) Write(b []byte) (int, error) { return s.parser.Write(b) }

// Ahead and Skip are those of the Parser.
func (s *Scanner) Ahead() int64 { return s.parser.Ahead() }

// Skip passes over n bytes that are in the tar, n at most Ahead.
func (s *Scanner) Skip(n int64) { s.parser.Skip(n) }

// Close ends the tar and the facts. The error is layer.ErrMalformed when the tar
// is cut off.
func (s *Scanner) Close() (layer.Summary, error) {
	if err := s.parser.Close(); err != nil {
		return layer.Summary{}, err
	}
	if err := s.to.Accounts(s.files.accounts()); err != nil {
		return layer.Summary{}, err
	}
	s.summary.TarSize = uint64(s.parser.Offset())
	return s.summary, s.to.Close(s.summary)
}

// scanHandler is the side of a Scanner that its parser sees.
type scanHandler Scanner

// Data takes the bytes of etc/passwd and etc/group.
func (s *scanHandler) Data(p []byte) error {
	s.files.data(p)
	return nil
}

// Entry writes the fact of an entry.
func (s *scanHandler) Entry(e *Entry) (keep bool, err error) {
	path, isDir, err := CleanName(e.Name)
	if err != nil {
		return false, err
	}
	if isDir && e.Flag == typeRegular {
		// Tars older than the type for folders mark them so.
		if e.Size != 0 {
			return false, malformed("entry %.80q is a folder with data", e.Name)
		}
		e.Flag = typeDir
	}
	kind, path, err := whiteout(path, e.Flag)
	if err != nil || kind == ignored {
		return false, err
	}
	s.fact = layer.Fact{Path: path, Kind: kind}
	if kind == 0 {
		drop, err := s.fill(e)
		if err != nil || drop {
			return false, err
		}
	}
	if err := s.to.Fact(&s.fact); err != nil {
		return false, err
	}
	s.summary.Entries++
	return s.files.see(&s.fact), nil
}

// fill completes the fact of an entry that is no whiteout. Devices are dropped.
func (s *scanHandler) fill(e *Entry) (drop bool, err error) {
	f := &s.fact
	switch e.Flag {
	case typeChar, typeBlock:
		return true, s.drop(f.Path)
	case typeHardlink:
		f.Kind = layer.Hardlink
		if f.Link, _, err = CleanName(e.Link); mutant.On("linkupwards") && err != nil {
			f.Link, err = "x", nil
		}
		if err != nil {
			return false, fmt.Errorf("target of hard link %.80q: %w", f.Path, err)
		}
		if _, gone := s.dropped[f.Link]; gone {
			return true, s.drop(f.Path)
		}
		delete(s.dropped, f.Path)
		return false, nil
	case typeRegular:
		f.Kind, f.Size, f.Extents = layer.Regular, uint64(e.Size), e.Extents
	case typeDir:
		f.Kind = layer.Dir
	case typeSymlink:
		f.Kind, f.Link = layer.Symlink, e.Link
	case typeFifo:
		f.Kind = layer.Fifo
	}
	delete(s.dropped, f.Path)
	f.Mode, f.UID, f.GID = e.Mode, e.UID, e.GID
	f.Seconds, f.Nanos, f.Xattrs = e.Seconds, e.Nanos, e.Xattrs
	return false, nil
}

// maxDropped bounds the paths of devices that are remembered.
const maxDropped = 64 << 10

func (s *scanHandler) drop(path string) error {
	s.summary.Devices++
	if s.summary.Devices > layer.MaxEntries {
		return malformed("more than %d devices", layer.MaxEntries)
	}
	if s.dropped == nil {
		s.dropped = map[string]struct{}{}
	}
	if len(s.dropped) < maxDropped {
		s.dropped[path] = struct{}{}
	}
	return nil
}

// CleanName makes a path of a layer of a name in the tar: relative to the root,
// without empty and "." components. A trailing slash is reported. A name with a
// ".." component is refused: no honest tool writes one.
func CleanName(name string) (path string, isDir bool, err error) {
	trimmed := strings.TrimRight(name, "/")
	isDir = len(trimmed) < len(name)
	path = strings.TrimPrefix(strings.TrimLeft(trimmed, "/"), "./")
	if layer.CleanPath(path) {
		return path, isDir, nil
	}
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return "", false, malformed("entry without a name")
	}
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, part := range parts {
		switch part {
		case "", ".":
		case "..":
			if mutant.On("upwards") {
				continue
			}
			return "", false, malformed("name %.80q leads upwards", name)
		default:
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		return ".", true, nil
	}
	path = strings.Join(kept, "/")
	if !layer.CleanPath(path) {
		return "", false, malformed("name %.80q has %d bytes in %d parts, more than a file can have", name, len(name), len(kept))
	}
	return path, isDir, nil
}

// The names by which a layer hides what is below it (image-spec, "whiteouts").
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // folders and files of aufs, and the next:
	opaqueName     = ".wh..wh..opq"
)

// ignored is the kind of an entry that means nothing.
const ignored layer.Kind = 255

// whiteout returns what an entry hides, or 0 if it is an ordinary one.
func whiteout(path string, flag byte) (layer.Kind, string, error) {
	if !strings.Contains(path, whiteoutPrefix) {
		return 0, path, nil
	}
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
		for part := range strings.SplitSeq(dir, "/") {
			switch {
			case strings.HasPrefix(part, metaPrefix):
				return ignored, "", nil
			case strings.HasPrefix(part, whiteoutPrefix):
				return 0, "", malformed("entry %.80q is below a whiteout", path)
			}
		}
	}
	hidden, ok := strings.CutPrefix(name, whiteoutPrefix)
	switch {
	case !ok:
		return 0, path, nil
	case name == opaqueName && flag == typeRegular:
		return layer.Opaque, dir, nil
	case name != opaqueName && strings.HasPrefix(name, metaPrefix):
		return ignored, "", nil
	case flag != typeRegular && flag != typeHardlink && !mutant.On("anywhiteout"): // aufs links all to one
		return 0, "", malformed("whiteout %.80q is not a plain file", path)
	case hidden == "" || hidden == "." || hidden == "..":
		return 0, "", malformed("whiteout %.80q of nothing", path)
	}
	if dir != "." {
		hidden = dir + "/" + hidden
	}
	return layer.Whiteout, hidden, nil
}
