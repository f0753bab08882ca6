// Package ingest is the confined half of fetching: it reads what strangers
// wrote, over the network or in files, and leaves in the spool folder what the
// privileged half needs: manifest and config as they came, and for each layer an
// uncompressed tar with the facts about it. It needs no privilege, opens
// nothing by an absolute path, and is told everything by the request. Start
// with Serve; the layer pipeline is in layer.go.
package ingest

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"rkt/fetch/ingest/tarball"
	"rkt/fetch/ingest/unpack"
	"rkt/fetch/wire"
	"rkt/image/layer"
)

// Files are what rkt-fetch is started with.
type Files struct {
	Spool  *os.File
	Report io.Writer
	Orders io.Reader
	// Source opens the local image or tar; it is called for a request that needs it.
	Source func() (*os.File, error)
	// Pause is the first pause before a request is repeated; 0 = the usual one.
	Pause time.Duration
}

// Serve does what the request on Orders says. It returns nil when it has said
// Done, and the reason when it has said Failed, or could not.
func Serve(ctx context.Context, files Files) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	report := &reporter{w: files.Report, gone: cancel}

	request, err := wire.ReadRequest(files.Orders)
	if err == nil {
		err = serve(ctx, request, files, report)
	}
	if err != nil {
		if e := report.failed(err); e != nil {
			return fmt.Errorf("%w (and cannot report it: %v)", err, e)
		}
		return err
	}
	return report.send(wire.Message{Type: wire.Done})
}

func serve(ctx context.Context, request wire.Request, files Files, report *reporter) error {
	if request.Mode == wire.Fetch && request.Source.Kind == wire.Registry {
		return fetch(ctx, request, nil, files, report)
	}
	source, err := files.Source()
	if err != nil {
		return err
	}
	defer source.Close()
	switch request.Mode {
	case wire.Scan:
		return scan(source, spool{files.Spool})
	case wire.Unpack:
		return unpack.Tar(source, files.Spool, wire.UnpackDir)
	}
	return fetch(ctx, request, source, files, report)
}

// scan writes the facts about the tar on source.
func scan(source *os.File, out spool) (err error) {
	f, err := out.create(fmt.Sprintf(wire.LayerFacts, 0))
	if err != nil {
		return err
	}
	defer closeInto(&err, f)
	return tarball.ScanFile(source, layer.NewWriter(f))
}

// fetch brings an image: what the reference means first, then, once the front
// end has agreed to it, the layers that it wants.
func fetch(ctx context.Context, request wire.Request, source *os.File, files Files, report *reporter) error {
	out := spool{files.Spool}
	from, err := openSource(ctx, request, source, files.Pause, out, report)
	if err != nil {
		return err
	}
	defer from.close()

	manifest, err := resolve(ctx, from, request, out)
	if err != nil {
		return err
	}
	if err := report.send(wire.Message{Type: wire.Resolved}); err != nil {
		return err
	}
	order, err := wire.ReceiveOrder(files.Orders)
	if err != nil {
		return fmt.Errorf("receive order: %w", err)
	}
	if len(order.Want) != len(manifest.Layers) {
		return fmt.Errorf("order for %d layers, the image has %d", len(order.Want), len(manifest.Layers))
	}
	b := &bringer{
		from: from, out: out, report: report,
		manifest: manifest, parallel: request.Parallel, keepBlob: request.KeepBlob,
		room: newBudget(maxTars), windows: newShares(windowMemory),
	}
	return b.bring(ctx, order)
}
