package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/confined"
	"rkt/fetch/wire"
	"rkt/image/trust"
	"rkt/internal/mutant"
)

// verifySilence is how long the verifier may take for a step. The slowest set of
// signatures takes it a fraction of a second.
const verifySilence = 30 * time.Second

// maxSigners bounds what a verifier may tell.
const maxSigners = 16

// verify has the signatures of an image verified by rkt-fetch, in a process that
// has nothing but them. A signer is returned only when that process has named one,
// as one of the anchors and for one of the digests of s, and has ended well; any
// other end is an error. strangers have signed well and are not among the anchors.
func (f *Fetcher) verify(ctx context.Context, s subject, a *trust.Anchors, set []byte) (_ *trust.Signer, strangers []trust.Signer, err error) {
	if len(set) == 0 {
		return nil, nil, coded(wire.CodeUnsigned, "it is not signed")
	}
	file, err := memory(set)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*f.patience)
	defer cancel()
	proc, err := confined.StartJob(ctx, f.confinement(), confined.Job{
		Role: wire.VerifySignatures, Source: file, Request: verifyRequest(s, a),
	})
	if err != nil {
		return nil, nil, err
	}
	defer proc.Close()
	return f.listen(proc, s, a)
}

// listen hears what the verifier says.
func (f *Fetcher) listen(proc *confined.Task, s subject, a *trust.Anchors) (signed *trust.Signer, strangers []trust.Signer, err error) {
	for range maxSigners {
		m, err := proc.Receive(f.patience)
		if err != nil {
			return nil, nil, err
		}
		switch m.Type {
		case wire.Signed, wire.Stranger:
			signer, err := checkedSigner(m, s, a)
			switch {
			case err != nil:
				return nil, nil, err
			case m.Type == wire.Stranger:
				strangers = append(strangers, signer)
			case signed != nil:
				return nil, nil, errors.New("rkt-fetch accepts two signers")
			default:
				signed = &signer
			}
		case wire.Failed:
			return nil, strangers, coded(m.Code, "%w", reported{m.Text})
		case wire.Done:
			if signed == nil {
				return nil, nil, errors.New("rkt-fetch accepts no signer and says that it is done")
			}
			return signed, strangers, proc.Wait()
		case wire.Note:
			f.emit(Note{m.Text})
		default:
			return nil, nil, fmt.Errorf("rkt-fetch sends message %d instead of a signer", m.Type)
		}
	}
	return nil, nil, errFlood
}

// checkedSigner holds what the verifier says against what it was told.
func checkedSigner(m wire.Message, s subject, a *trust.Anchors) (trust.Signer, error) {
	signer, err := m.Signer()
	if err != nil {
		return signer, err
	}
	if !slices.Contains([]cas.Digest{s.manifest, s.index}, signer.Digest) {
		return signer, fmt.Errorf("rkt-fetch names a signer of %v, which is another image", signer.Digest)
	}
	if m.Type == wire.Stranger {
		if signer.Key != "" {
			return signer, errors.New("rkt-fetch names a key that it cannot know")
		}
		return signer, nil
	}
	if signer.Key != "" {
		if !slices.ContainsFunc(a.Keys, func(k trust.Key) bool { return k.Fingerprint == signer.Key }) && !mutant.On("believeverifier") {
			return signer, fmt.Errorf("rkt-fetch accepts the key %s, which is not trusted", signer.Key)
		}
		return signer, nil
	}
	for _, id := range a.Identities {
		if ok, err := id.Matches(signer.Issuer, signer.Subject); err != nil || ok {
			return signer, err
		}
	}
	return signer, fmt.Errorf("rkt-fetch accepts %q, who is not trusted", signer.Subject)
}

func verifyRequest(s subject, a *trust.Anchors) wire.Request {
	t := &wire.Trust{Name: s.name, Digests: []string{s.manifest.String()}, Identities: a.Identities, Root: string(a.Root), Proof: a.Proof}
	if !s.index.IsZero() {
		t.Digests = append(t.Digests, s.index.String())
	}
	for _, k := range a.Keys {
		t.Keys = append(t.Keys, string(k.PEM))
	}
	return wire.Request{Version: wire.Version, Mode: wire.Verify, Trust: t}
}

// memory makes a file of b that nobody can change.
func memory(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("signatures", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory for signatures: %w", err)
	}
	f := os.NewFile(uintptr(fd), "signatures")
	_, err = f.WriteAt(b, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make memory for signatures: %w", err)
	}
	return f, nil
}
