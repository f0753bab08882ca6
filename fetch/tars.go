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
	Demand  bool   // as Options.DemandConfinement
}

// Scan writes the facts of the tar into a file in the folder and returns it.
// They are claims of rkt-fetch.
func (t Tars) Scan(ctx context.Context, tar, folder *os.File) (*os.File, error) {
	name := fmt.Sprintf(wire.LayerFacts, 0)
	job := confined.Job{Role: wire.ReadLayer, Source: tar, FactsDir: folder, FactsName: name, Request: request(wire.Scan)}
	if err := t.run(ctx, job); err != nil {
		return nil, err
	}
	return openSpool(folder, name, layer.MaxFacts)
}

// Unpack leaves the files of the tar in the folder, in a folder "root".
func (t Tars) Unpack(ctx context.Context, tar, folder *os.File) error {
	return t.run(ctx, confined.Job{Role: wire.UnpackLayer, Source: tar, Spool: folder, Request: request(wire.Unpack)})
}

func request(mode wire.Mode) wire.Request { return wire.Request{Version: wire.Version, Mode: mode} }

func (t Tars) run(ctx context.Context, job confined.Job) error {
	err := confined.Run(ctx, confined.Options{Program: t.Program, Demand: t.Demand}, job, silence, func(m wire.Message) error {
		if m.Type == wire.Failed {
			return reported{m.Text}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s tar: %w", job.Request.Mode, err)
	}
	return nil
}
