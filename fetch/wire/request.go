package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of a request.
const (
	MaxRequest   = 8 << 20 // bytes; certificates are the bulk of it
	MaxEndpoints = 32
	MaxParallel  = 32
	MaxStall     = 24 * 60 * 60 // seconds
)

// WriteRequest writes the request as one line of JSON. A request that
// ReadRequest would refuse is ErrMalformed and nothing is written. The line may
// hold secrets: it goes into the pipe and nowhere else.
func WriteRequest(w io.Writer, r Request) error {
	if err := r.check(); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode fetch request: %w", err)
	}
	if len(b) >= MaxRequest {
		return malformed("request of %d bytes, limit is %d", len(b), MaxRequest)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("send fetch request: %w", err)
	}
	return nil
}

// ReadRequest reads the request line. Nothing may follow it until rkt-fetch has
// answered, so bytes behind the line are ErrMalformed, as are unknown fields and
// values that no mode can use. Errors do not repeat what was read.
func ReadRequest(r io.Reader) (Request, error) {
	line, err := readLine(r)
	if err != nil {
		return Request{}, err
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var req Request
	if err := d.Decode(&req); err != nil {
		return Request{}, malformed("request is not the JSON of this version")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Request{}, malformed("more than one value in the request")
	}
	return req, req.check()
}

func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	chunk := make([]byte, 4096)
	for {
		n, err := r.Read(chunk)
		line = append(line, chunk[:n]...)
		if end := bytes.IndexByte(line[len(line)-n:], '\n'); end >= 0 {
			if end != n-1 {
				return nil, malformed("bytes behind the request")
			}
			return line[:len(line)-1], nil
		}
		if len(line) > MaxRequest {
			return nil, malformed("request of more than %d bytes", MaxRequest)
		}
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r Request) check() error {
	if r.Version != Version {
		return malformed("protocol version %d, want %d", r.Version, Version)
	}
	if r.Parallel < 0 || r.Parallel > MaxParallel || r.StallSeconds < 0 || r.StallSeconds > MaxStall {
		return malformed("%d transfers at once, stalled after %d s", r.Parallel, r.StallSeconds)
	}
	if (r.Trust != nil) != (r.Mode == Verify) {
		return malformed("trust in a request of the mode %q", r.Mode)
	}
	switch r.Mode {
	case Scan, Unpack:
		return nil
	case Inflate:
		if r.Budget <= 0 {
			return malformed("a budget of %d bytes", r.Budget)
		}
		return nil
	case Verify:
		return r.Trust.check()
	case Fetch:
		if r.Platform.OS == "" || r.Platform.Arch == "" {
			return malformed("no platform")
		}
		return r.Source.check()
	}
	return malformed("unknown mode %q", r.Mode)
}

func (s Source) check() error {
	if s.Digest != "" && !isDigest(s.Digest) {
		return malformed("source digest %q", s.Digest)
	}
	switch s.Kind {
	case Layout, OCIArchive, DockerArchive, AnyArchive:
		if s.Repository != "" || len(s.Endpoints) != 0 || s.Signatures {
			return malformed("a local source with a registry")
		}
		return nil
	case Registry:
	default:
		return malformed("unknown kind of source %q", s.Kind)
	}
	if !isRepository(s.Repository) || s.Tag == "" && s.Digest == "" || s.Tag != "" && !isTag(s.Tag) {
		return malformed("repository %q, tag %q", s.Repository, s.Tag)
	}
	if len(s.Endpoints) == 0 || len(s.Endpoints) > MaxEndpoints {
		return malformed("%d registry endpoints", len(s.Endpoints))
	}
	for _, e := range s.Endpoints {
		if !isHost(e.Host) {
			return malformed("registry host %q", e.Host)
		}
	}
	return nil
}

// isDigest: of all algorithms the store keeps sha256 only.
func isDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	_, err := hex.DecodeString(digits)
	return ok && len(digits) == 64 && err == nil && digits == strings.ToLower(digits)
}

// isRepository keeps everything out that could mean something else in the path
// of a URL; image.ParseRef knows the exact grammar.
func isRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || !only(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") || part[0] == '.' {
			return false
		}
	}
	return len(s) <= 255
}

func isTag(s string) bool {
	return len(s) <= 128 && s[0] != '.' && s[0] != '-' && only(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
}

// isHost accepts host, host:port, 127.0.0.1:port and [::1]:port.
func isHost(s string) bool {
	return s != "" && len(s) <= 300 && only(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]_")
}

func only(s, chars string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(chars, r) }) < 0
}
