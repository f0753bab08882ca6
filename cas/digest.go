package cas

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrDigest reports a text that is not a digest of this store.
var ErrDigest = errors.New("malformed digest")

const digestPrefix = "sha256:"

// Digest is the SHA-256 of some bytes. Only Parse, FromHex and Of make one that
// is not zero, so a Digest is always safe as a file name. The zero Digest means
// "none". Digests are comparable.
type Digest struct{ sum [sha256.Size]byte }

// ParseDigest parses "sha256:" with 64 lower-case hexadecimal digits, the only
// spelling. The error is ErrDigest.
func ParseDigest(s string) (Digest, error) {
	rest, ok := strings.CutPrefix(s, digestPrefix)
	if !ok {
		if algorithm, _, found := strings.Cut(s, ":"); found && (algorithm == "sha512" || algorithm == "sha384") {
			return Digest{}, fmt.Errorf("%w: algorithm %q is not supported, only sha256", ErrDigest, algorithm)
		}
		return Digest{}, fmt.Errorf("%w %.100q: want sha256:<64 hex digits>", ErrDigest, s)
	}
	return FromHex(rest)
}

// FromHex parses 64 lower-case hexadecimal digits. The error is ErrDigest.
func FromHex(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d.sum)) || s != strings.ToLower(s) {
		return Digest{}, fmt.Errorf("%w %.100q: want 64 lower-case hex digits", ErrDigest, s)
	}
	if _, err := hex.Decode(d.sum[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("%w %.100q: want 64 lower-case hex digits", ErrDigest, s)
	}
	if d.IsZero() {
		return Digest{}, fmt.Errorf("%w %q: nothing has the digest zero", ErrDigest, s)
	}
	return d, nil
}

// Of returns the digest of b.
func Of(b []byte) Digest { return Digest{sha256.Sum256(b)} }

// IsZero reports whether d is "none".
func (d Digest) IsZero() bool { return d == Digest{} }

// Hex returns the 64 hexadecimal digits.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:]) }

// String returns "sha256:<hex>"; "" for the zero digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return digestPrefix + d.Hex()
}

// MarshalText implements encoding.TextMarshaler. The zero digest has no text:
// leave it out with `omitzero`.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, fmt.Errorf("%w: none", ErrDigest)
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseDigest.
func (d *Digest) UnmarshalText(b []byte) error {
	parsed, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
