// Package ingest is the confined half of fetching: it reads what strangers
// wrote, over the network or in files. It is several processes with one role
// each (wire.Role): one brings documents into the spool folder and the layers, as
// they come, into pipes; for each layer one makes an uncompressed tar of what
// comes through its pipe, with the facts about it. It needs no privilege, opens
// nothing by an absolute path of the host, and is told everything by the request.
// Start with Main; bring.go is the sending side of a layer, layer.go the reading.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest/sandbox"
	"rkt/fetch/ingest/tarball"
	"rkt/fetch/ingest/unpack"
	"rkt/fetch/wire"
	"rkt/image/layer"
)

// Options of Main.
type Options struct {
	// Pause is the first pause before a request is repeated; 0 = the usual one.
	Pause time.Duration
	// Instead, if set, is called in place of what the role does, once the process
	// is confined: tests look from inside.
	Instead func(request wire.Request, report func(wire.Message) error) error
}

// Main is the program: args are those that fetch/confined starts it with. It
// confines the process, says how far that went, and does what the request says.
// It returns nil when it has said Done, and the reason when it has said Failed,
// or could not.
func Main(args []string, o Options) error {
	place, err := parseArgs(args)
	if err != nil {
		return fmt.Errorf("it is started by rkt, not by hand: %w", err)
	}
	confinement, confineErr := sandbox.Enter(place)
	w, err := open(wire.ReportFD, "report")
	if err != nil {
		return errors.Join(confineErr, err)
	}
	orders, err := open(wire.OrderFD, "orders")
	if err != nil {
		return errors.Join(confineErr, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s := &server{role: place.Role, orders: orders, report: &reporter{w: w, gone: cancel}, o: o}
	err = confineErr
	if err == nil {
		err = s.serve(ctx, confinement)
	}
	var said errReported
	if errors.As(err, &said) {
		return err
	}
	if err != nil {
		if e := s.report.failed(err); e != nil {
			return fmt.Errorf("%w (and cannot report it: %v)", err, e)
		}
		return err
	}
	return s.report.send(wire.Message{Type: wire.Done})
}

// parseArgs reads the role, the way of starting, uid and gid.
func parseArgs(args []string) (sandbox.Options, error) {
	o := sandbox.Options{Keep: wire.FactsFD}
	if len(args) != 5 {
		return o, fmt.Errorf("%d arguments, want 4", len(args)-1)
	}
	o.Role, o.How = wire.Role(args[1]), wire.How(args[2])
	switch o.Role {
	case wire.AskRegistries, wire.ReadImage, wire.ReadLayer, wire.VerifySignatures, wire.UnpackLayer:
	default:
		return o, fmt.Errorf("unknown role %q", o.Role)
	}
	var err error
	if o.UID, err = strconv.Atoi(args[3]); err != nil {
		return o, err
	}
	o.GID, err = strconv.Atoi(args[4])
	return o, err
}

// open takes a file that the process was started with. That it has a certain
// number says the role, or the request.
func open(fd int, name string) (*os.File, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("no file descriptor %d (%s): %w", fd, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// server does one request.
type server struct {
	role   wire.Role
	orders *os.File
	report *reporter
	o      Options
}

func (s *server) serve(ctx context.Context, c sandbox.Result) error {
	err := s.report.send(wire.Message{
		Type: wire.Confined, Bytes: uint64(c.Lines), Total: uint64(s.role.Lines()), Text: c.Refused,
	})
	if err != nil {
		return err
	}
	request, err := wire.ReadRequest(s.orders)
	if err != nil {
		return err
	}
	if s.o.Instead != nil {
		return s.o.Instead(request, s.report.send)
	}
	switch {
	case request.Mode == wire.Fetch && request.Source.Kind == wire.Registry && s.role == wire.AskRegistries:
		return s.fetch(ctx, request, nil)
	case request.Mode == wire.Fetch && request.Source.Kind == wire.Layout && s.role == wire.ReadImage:
		return s.fetch(ctx, request, nil)
	case request.Mode == wire.Fetch && request.Source.Kind != wire.Registry && s.role == wire.ReadImage:
	case request.Mode == wire.Inflate && s.role == wire.ReadLayer:
	case request.Mode == wire.Scan && s.role == wire.ReadLayer:
	case request.Mode == wire.Unpack && s.role == wire.UnpackLayer:
	case request.Mode == wire.Verify && s.role == wire.VerifySignatures:
	default:
		return fmt.Errorf("the mode %q is not for the role %q", request.Mode, s.role)
	}
	source, err := open(wire.SourceFD, "source")
	if err != nil {
		return err
	}
	defer source.Close()
	switch request.Mode {
	case wire.Inflate:
		return s.inflate(ctx, request, source)
	case wire.Scan:
		return scan(source)
	case wire.Verify:
		return s.verify(*request.Trust, source)
	case wire.Unpack:
		dir, err := open(wire.SpoolFD, "spool")
		if err != nil {
			return err
		}
		return unpack.Tar(source, dir, wire.UnpackDir)
	}
	return s.fetch(ctx, request, source)
}

// scan writes the facts about the tar on source.
func scan(source *os.File) (err error) {
	f, err := open(wire.FactsFD, "facts")
	if err != nil {
		return err
	}
	defer closeInto(&err, f)
	return tarball.ScanFile(source, layer.NewWriter(f))
}

// fetch brings an image: what the reference means first, then, once the front
// end has agreed to it, the layers that it wants.
func (s *server) fetch(ctx context.Context, request wire.Request, source *os.File) error {
	dir, err := open(wire.SpoolFD, "spool")
	if err != nil {
		return err
	}
	out := spool{dir}
	files := newGrants(s.orders, s.report)
	from, err := openSource(ctx, request, source, files, s.o.Pause, out, s.report)
	if err != nil {
		return err
	}
	defer from.close()

	manifest, err := resolve(ctx, from, request, out)
	if err != nil {
		return err
	}
	if err := s.report.send(wire.Message{Type: wire.Resolved}); err != nil {
		return err
	}
	order, err := wire.ReceiveOrder(s.orders)
	if err != nil {
		return fmt.Errorf("receive order: %w", err)
	}
	if len(order.Want) != len(manifest.Layers) {
		return fmt.Errorf("order for %d layers, the image has %d", len(order.Want), len(manifest.Layers))
	}
	b := &bringer{
		from: from, out: out, report: s.report, grants: files,
		manifest: manifest, parallel: request.Parallel, keepBlob: request.KeepBlob,
	}
	return b.bring(ctx, order)
}
