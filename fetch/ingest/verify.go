package ingest

import (
	"fmt"
	"io"
	"os"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/signature"
	"rkt/fetch/wire"
)

// verify holds the signatures on source against a trust and tells whose they are.
// Without source, in the form of an empty file, it tells of what kind the keys are.
func (s *server) verify(t wire.Trust, source *os.File) error {
	set, err := io.ReadAll(io.LimitReader(source, wire.MaxSignatures+1))
	if err != nil {
		return fmt.Errorf("read signatures: %w", err)
	}
	if len(set) == 0 {
		return s.describe(t)
	}
	result, err := signature.Verify(t, set)
	for _, stranger := range result.Strangers {
		m, err := wire.NewSigner(wire.Stranger, stranger)
		if err != nil {
			return err
		}
		if err := s.report.send(m); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if result.Accepted == nil {
		return fault.New(wire.CodeSignature, "no signer is accepted")
	}
	m, err := wire.NewSigner(wire.Signed, *result.Accepted)
	if err != nil {
		return err
	}
	return s.report.send(m)
}

// describe tells whether a trust is usable, with a note about each key.
func (s *server) describe(t wire.Trust) error {
	kinds, err := signature.CheckTrust(t)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		s.report.note(kind)
	}
	return nil
}
