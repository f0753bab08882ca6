package confined

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/mutant"
	"rkt/internal/safepath"
)

// maxOpened bounds the files of a layout that are opened: documents, and each
// layer several times.
const maxOpened = 4 * wire.MaxLayers

// open opens a file of the layout for the source, which may not be allowed to
// enter the folder. It gets the files that the format of layouts knows, inside the
// folder, and no link is followed to get there.
func (s *Session) open(m wire.Message) error {
	if s.opened++; s.layout == nil || s.opened > maxOpened || !isLayoutFile(m.Text) {
		return fmt.Errorf("%w: it asks for the file %.100q", errProtocol, m.Text)
	}
	g := wire.Grant{Type: wire.Open, Number: uint32(m.Bytes)}
	f, err := safepath.OpenBeneath(s.layout, m.Text, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil && mutant.On("followlinks") {
		f, err = os.Open(s.layout.Name() + "/" + m.Text)
	}
	if err != nil {
		g.Errno = unix.EIO
		errors.As(err, &g.Errno)
		return wire.SendGrant(int(s.source.orders.Fd()), g, -1)
	}
	defer f.Close()
	return wire.SendGrant(int(s.source.orders.Fd()), g, int(f.Fd()))
}

// isLayoutFile reports whether name is that of a file of an OCI image layout.
func isLayoutFile(name string) bool {
	if name == "oci-layout" || name == "index.json" {
		return true
	}
	digits, ok := strings.CutPrefix(name, "blobs/sha256/")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
