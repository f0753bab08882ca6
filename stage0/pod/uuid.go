package pod

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// uuidLen is the length of the text form of a UUID.
const uuidLen = 36

// UUID is the identity of a pod: a random (version 4) UUID.
type UUID [16]byte

// NewUUID returns a random UUID.
func NewUUID() UUID {
	var u UUID
	rand.Read(u[:]) // never fails, crypto/rand ends the program instead
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// ParseUUID parses the text form: lower-case hexadecimal digits in groups of 8,
// 4, 4, 4 and 12. Nothing else is accepted, so that a pod has one spelling and
// the text is always a plain file name.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != uuidLen || !isUUIDPrefix(s) {
		return u, fmt.Errorf("%q is not a UUID", clip(s))
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	_, err := hex.Decode(u[:], []byte(digits))
	return u, err
}

// isUUIDPrefix reports whether s, which is not empty, can begin a UUID.
func isUUIDPrefix(s string) bool {
	if s == "" || len(s) > uuidLen {
		return false
	}
	for i := range len(s) {
		c := s[i]
		dash := i == 8 || i == 13 || i == 18 || i == 23
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if dash != (c == '-') || !dash && !digit {
			return false
		}
	}
	return true
}

// String returns the text form.
func (u UUID) String() string {
	var b [uuidLen]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Short returns the first eight digits, which is what tables show.
func (u UUID) Short() string { return u.String()[:8] }

// MarshalText implements encoding.TextMarshaler.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) error {
	v, err := ParseUUID(string(b))
	if err == nil {
		*u = v
	}
	return err
}

// clip shortens what a user typed for a message.
func clip(s string) string {
	const longest = 80
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}
