package fetch

import (
	"context"
	"fmt"
	"os"

	"rkt/fetch/confined"
	"rkt/fetch/wire"
	"rkt/image/layer"
)

// Tars reads layer tars that are in the store already, by rkt-fetch: indexes
// that were lost or belong to another driver are made again without a registry.
type Tars struct {
	Program string // the path of rkt-fetch
}

// Scan writes the facts of the tar into a file in the folder and returns it.
// They are claims of rkt-fetch.
func (t Tars) Scan(ctx context.Context, tar, folder *os.File) (*os.File, error) {
	if err := t.run(ctx, wire.Scan, tar, folder); err != nil {
		return nil, err
	}
	return openSpool(folder, fmt.Sprintf(wire.LayerFacts, 0), layer.MaxFacts)
}

// Unpack leaves the files of the tar in the folder, in a folder "root".
func (t Tars) Unpack(ctx context.Context, tar, folder *os.File) error {
	return t.run(ctx, wire.Unpack, tar, folder)
}

func (t Tars) run(ctx context.Context, mode wire.Mode, tar, folder *os.File) error {
	request := wire.Request{Version: wire.Version, Mode: mode}
	proc, err := confined.Start(ctx, t.Program, confined.Files{Spool: folder, Source: tar}, request)
	if err != nil {
		return err
	}
	defer proc.Close()
	for n := 0; n < maxNotes; n++ {
		m, err := proc.Receive(silence)
		if err != nil {
			return fmt.Errorf("%s tar: %w", mode, err)
		}
		switch m.Type {
		case wire.Done:
			return proc.Wait()
		case wire.Failed:
			return fmt.Errorf("%s tar: %w", mode, reported{m.Text})
		}
	}
	return errFlood
}
