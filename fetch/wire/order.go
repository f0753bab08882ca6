package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// orderTag starts an order, so that a stray byte is not taken for a count.
const orderTag = 'O'

// SendOrder writes an order: a tag, the number of layers (16 bits, little-endian)
// and a bit for each, lowest first. More than MaxLayers are ErrMalformed.
func SendOrder(w io.Writer, o Order) error {
	if len(o.Want) > MaxLayers {
		return malformed("order for %d layers, limit is %d", len(o.Want), MaxLayers)
	}
	b := make([]byte, 3+(len(o.Want)+7)/8)
	b[0] = orderTag
	binary.LittleEndian.PutUint16(b[1:], uint16(len(o.Want)))
	for i, want := range o.Want {
		if want {
			b[3+i/8] |= 1 << (i % 8)
		}
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("send fetch order: %w", err)
	}
	return nil
}

// ReceiveOrder reads one order and nothing past it, with the errors of Receive.
// That it is for as many layers as the image has is for the caller to check.
func ReceiveOrder(r io.Reader) (Order, error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Order{}, err
	}
	count := int(binary.LittleEndian.Uint16(head[1:]))
	if head[0] != orderTag || count > MaxLayers {
		return Order{}, malformed("order of tag %d for %d layers", head[0], count)
	}
	bits := make([]byte, (count+7)/8)
	if _, err := io.ReadFull(r, bits); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Order{}, err
	}
	if count%8 != 0 && bits[len(bits)-1]>>(count%8) != 0 {
		return Order{}, malformed("order with bits past its %d layers", count)
	}
	o := Order{Want: make([]bool, count)}
	for i := range o.Want {
		o.Want[i] = bits[i/8]>>(i%8)&1 == 1
	}
	return o, nil
}
