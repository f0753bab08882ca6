package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Grant answers a Need or an Open, over the socket of the orders.
type Grant struct {
	Type   Type       // what it answers: Need or Open
	Number uint32     // the layer of the Need, or the number of the Open
	Errno  unix.Errno // why there is no file; 0 = it comes along
}

// grantSize is the size of a grant in bytes: tag, type, number and errno (32
// bits each, little-endian), nothing.
const grantSize = 12

// grantTag starts a grant.
const grantTag = 'G'

// SendGrant sends a grant and, unless it is -1, the descriptor of a file.
func SendGrant(socket int, g Grant, fd int) error {
	b := []byte{grantTag, byte(g.Type), 0, 0}
	b = binary.LittleEndian.AppendUint32(b, g.Number)
	b = binary.LittleEndian.AppendUint32(b, uint32(g.Errno))
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(socket, b, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send fetch grant: %w", err)
	}
	return nil
}

// ReceiveGrant waits for a grant and returns the descriptor that it brings, which
// is closed on exec; -1 = none. The error is io.EOF when the other end is closed.
func ReceiveGrant(socket int) (g Grant, fd int, err error) {
	b, oob := make([]byte, grantSize), make([]byte, unix.CmsgSpace(4))
	n, oobn := 0, 0
	for {
		n, oobn, _, _, err = unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return g, -1, fmt.Errorf("receive fetch grant: %w", err)
	}
	if n == 0 {
		return g, -1, io.EOF
	}
	fd, err = rights(oob[:oobn])
	if err == nil && (n != grantSize || b[0] != grantTag) {
		err = malformed("grant of %d bytes", n)
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return g, -1, err
	}
	g.Type = Type(b[1])
	g.Number, g.Errno = binary.LittleEndian.Uint32(b[4:]), unix.Errno(binary.LittleEndian.Uint32(b[8:]))
	return g, fd, nil
}

// rights returns the one descriptor in the control messages, or -1.
func rights(oob []byte) (int, error) {
	if len(oob) == 0 {
		return -1, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return -1, malformed("grant with %d control messages", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil && len(fds) == 1 {
		return fds[0], nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return -1, errors.Join(malformed("grant with %d files", len(fds)), err)
}
