package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// ErrMalformed reports a request, message or order that breaks the form, a
// limit or a rule of this package. Nothing more can be read from that pipe.
var ErrMalformed = errors.New("malformed fetch message")

// MaxLayers bounds the layers of an image, and so the length of an Order.
const MaxLayers = 512

// messageHeader is the size of the fixed part of a message in bytes: type,
// code, length of the text (16 bits), layer (32), bytes (64), total (64), all
// little-endian. The text follows.
const messageHeader = 24

// Send writes one message with a single Write, so that messages of several
// goroutines do not mix when each holds a lock around Send. It refuses with
// ErrMalformed what Receive would refuse, except that a text that is too long
// or not UTF-8 is made fit: a failure must get through whatever its words are.
func Send(w io.Writer, m Message) error {
	m.Text = fitText(m.Text)
	if err := m.check(); err != nil {
		return err
	}
	b := make([]byte, messageHeader, messageHeader+len(m.Text))
	b[0], b[1] = byte(m.Type), byte(m.Code)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(m.Text)))
	binary.LittleEndian.PutUint32(b[4:], m.Layer)
	binary.LittleEndian.PutUint64(b[8:], m.Bytes)
	binary.LittleEndian.PutUint64(b[16:], m.Total)
	if _, err := w.Write(append(b, m.Text...)); err != nil {
		return fmt.Errorf("send fetch message: %w", err)
	}
	return nil
}

// Receive reads one message and nothing past it. It returns io.EOF when the
// pipe ends between two messages, io.ErrUnexpectedEOF when it ends within one,
// and ErrMalformed for a message that no rkt-fetch sends. What is returned has
// a known type and code, a layer below MaxLayers, a text in UTF-8 of at most
// MaxText bytes, and zero in every field that its type does not use. The order
// of messages is for the caller to judge.
func Receive(r io.Reader) (Message, error) {
	var b [messageHeader]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Message{}, err
	}
	m := Message{
		Type:  Type(b[0]),
		Code:  Code(b[1]),
		Layer: binary.LittleEndian.Uint32(b[4:]),
		Bytes: binary.LittleEndian.Uint64(b[8:]),
		Total: binary.LittleEndian.Uint64(b[16:]),
	}
	length := binary.LittleEndian.Uint16(b[2:])
	if length > MaxText {
		return Message{}, malformed("text of %d bytes, limit is %d", length, MaxText)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Message{}, err
	}
	m.Text = string(text)
	if err := m.check(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// check holds a message against what its type uses.
func (m Message) check() error {
	if m.Type < Resolved || m.Type > Open {
		return malformed("unknown message type %d", m.Type)
	}
	ofLayer := m.Type == Progress || m.Type == Layer || m.Type == Need || m.Type == Given
	hasText := m.Type == Note || m.Type == Failed || m.Type == Signed || m.Type == Stranger || m.Type == Open || m.Type == Confined && m.Text != ""
	hasBytes := m.Type == Progress || m.Type == Need || m.Type == Open || m.Type == Confined
	switch {
	case m.Layer >= MaxLayers, m.Layer != 0 && !ofLayer:
		return malformed("layer %d in a message of type %d", m.Layer, m.Type)
	case !hasBytes && (m.Bytes != 0 || m.Total != 0), m.Bytes > m.Total:
		return malformed("%d of %d bytes in a message of type %d", m.Bytes, m.Total, m.Type)
	case m.Code > CodeTrust, m.Code != CodeOther && m.Type != Failed:
		return malformed("code %d in a message of type %d", m.Code, m.Type)
	case hasText != (m.Text != ""), len(m.Text) > MaxText, !utf8.ValidString(m.Text):
		return malformed("text of %d bytes in a message of type %d", len(m.Text), m.Type)
	}
	return nil
}

// fitText makes s a text that Receive accepts, cutting between characters.
func fitText(s string) string {
	const mark = "..."
	b := make([]byte, 0, min(len(s), MaxText))
	for _, r := range s { // what is not UTF-8 comes as U+FFFD
		if len(b)+utf8.RuneLen(r) > MaxText-len(mark) {
			return string(b) + mark
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
