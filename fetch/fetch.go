// Package fetch brings images into the store. It is the privileged half: it
// decides by policy, starts rkt-fetch, which alone touches the network and the
// bytes of strangers, checks everything that one claims, and commits. Names end
// here: a Fetcher takes a reference and returns digests. Begin with
// Fetcher.Get.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"rkt/cas"
	"rkt/fetch/confined"
	"rkt/fetch/registries"
	"rkt/image"
	"rkt/image/trust"
)

// Pull says when a registry or a local image is asked again.
type Pull string

// The pull policies.
const (
	PullNew    Pull = "new"    // only when the store does not have the image
	PullUpdate Pull = "update" // always; what has not changed is not brought again
	PullNever  Pull = "never"  // what the store does not have is an error
)

// ParsePull parses the value of --pull-policy.
func ParsePull(s string) (Pull, error) {
	switch p := Pull(s); p {
	case PullNew, PullUpdate, PullNever:
		return p, nil
	}
	return "", fmt.Errorf("unknown pull policy %q, known are new, update and never", s)
}

// Deriver makes what a driver needs of a layer from the facts about its tar,
// which are claims of rkt-fetch. It commits what it makes through in.
type Deriver interface {
	Derive(ctx context.Context, in *cas.Ingest, tar, facts *os.File, d cas.Digest) error
}

// Options of New. Store, Layers, Program and TrustDirs are needed.
type Options struct {
	Store  *image.Store
	Layers Deriver
	// Program is the path of rkt-fetch.
	Program string
	// DemandConfinement refuses to fetch where rkt-fetch cannot be confined fully.
	DemandConfinement bool
	// TrustDirs are the trust.d folders, vendor's first; answers of Ask are
	// written into the last one.
	TrustDirs  []string
	Registries registries.Config
	Platform   image.Platform // zero = this machine's
	Stdin      *os.File       // what "-" reads; nil = "-" is refused
	// Insecure switches the trust policy off. The verdict records it.
	Insecure bool
	// Progress is told what happens, by one goroutine at a time; nil = nobody.
	Progress func(Event)
	// Seen remembers which repositories were signed; nil = nothing is.
	Seen *trust.Seen
	// Ask asks the user about an image that no rule is about; nil = nobody is
	// there to answer, such images are refused.
	Ask func(context.Context, Question) (Answer, error)
}

// Question is what Ask is to ask: may this image be used?
type Question struct {
	Reference string     // as in records
	Name      string     // host/repository
	Registry  string     // host
	Manifest  cas.Digest // what the reference means now
	Reason    string     // why the policy asks
	// Signers have signed it, as the trusted root proves. Unknown says why nobody
	// knows who has, if it is signed; both empty = it is not signed.
	Signers []trust.Signer
	Unknown string
	// Before is who has signed the repository when it was first seen; "" = nobody.
	Before string
}

// Answer is what a user says to a Question.
type Answer int

// The answers. All but AnswerDigest and AnswerNo become a rule.
const (
	AnswerNo         Answer = iota
	AnswerDigest            // this digest, and nothing else of that name
	AnswerRepository        // everything in the repository; by the Signers, if there are any
	AnswerRegistry          // everything of the registry
)

// Fetcher brings images into one store. It may be used by several goroutines.
type Fetcher struct {
	o  Options
	mu sync.Mutex // of Progress
	// patience is how long a verifier may take for a step.
	patience time.Duration
}

// New returns a Fetcher. It reads nothing yet.
func New(o Options) *Fetcher {
	if o.Platform == (image.Platform{}) {
		o.Platform = image.Host()
	}
	f := &Fetcher{o: o, patience: verifySilence}
	f.o.Registries.Note = func(text string) { f.emit(Note{text}) }
	return f
}

// Image returns the image that text means: "sha256:" with the beginning of the
// ID of an image in the store, or a reference as Get takes it. The policy
// decides about both. The error may be image.ErrNotFound or ErrAmbiguous.
func (f *Fetcher) Image(ctx context.Context, text string, pull Pull) (*image.Image, error) {
	if isID(text) {
		return f.byID(ctx, text)
	}
	ref, err := image.ParseRef(text)
	if err != nil {
		return nil, err
	}
	if err := f.checkName(ref, text); err != nil {
		return nil, err
	}
	return f.Get(ctx, ref, pull)
}

// Get returns the image of a reference, bringing it into the store if the pull
// policy says so. Nothing is brought that the trust policy does not let in: the
// error is a *trust.Refused then, and an *Error for everything else. When Get
// returns an image, its bytes and its record are on the disk, all verified.
// After an error the store has no record of it; layers that came whole stay
// until the next sweep, so that the next attempt need not bring them again.
//
// Several Gets of one image, in any number of processes, bring it once.
func (f *Fetcher) Get(ctx context.Context, ref image.Ref, pull Pull) (*image.Image, error) {
	img, err := f.get(ctx, ref, pull)
	if err != nil {
		return nil, f.fail(ctx, ref, err)
	}
	f.emit(Ready{Reference: ref.String(), ID: img.ID, Manifest: img.Record.Manifest})
	return img, nil
}

func (f *Fetcher) get(ctx context.Context, ref image.Ref, pull Pull) (*image.Image, error) {
	begin := time.Now()
	img, err := f.present(ctx, ref, pull)
	if img != nil || err != nil {
		return img, err
	}
	if pull == PullNever {
		return nil, errNever
	}
	signatures, err := f.refuseEarly(ref)
	if err != nil {
		return nil, err
	}

	lock, waited, err := f.lockReference(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer lock.release()
	if waited {
		img, err := f.presentSince(ctx, ref, pull, begin)
		if img != nil || err != nil {
			return img, err
		}
	}
	asked := ref
	if signatures {
		asked = f.signaturesOnly(ref, pull)
	}
	return f.bring(ctx, ref, asked, signatures)
}

// errNever is a pull policy that is not content with the store.
var errNever = fmt.Errorf("%w in the store, and the pull policy is never", image.ErrNotFound)

// bring fetches the image by the reference asked, with its signatures if they are
// wanted, and records it as ref. The reference is locked.
func (f *Fetcher) bring(ctx context.Context, ref, asked image.Ref, signatures bool) (_ *image.Image, err error) {
	source, err := f.openSource(ctx, asked)
	if err != nil {
		return nil, err
	}
	source.request.Signatures = signatures
	defer source.close()
	in, err := f.o.Store.CAS().Ingest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := in.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("remove spool: %w", closeErr)
		}
	}()
	f.sweepLocks()
	f.emit(Started{Reference: ref.String()})
	if ref.Transport == image.Registry && ref.Tag != "" && !ref.Digest.IsZero() {
		f.emit(Note{fmt.Sprintf("the tag %q is ignored, the digest says which image it is", ref.Tag)})
	}
	t := &transfer{f: f, ref: ref, asked: asked, source: source, in: in}
	return t.run(ctx)
}

// confinement is how rkt-fetch is to be started.
func (f *Fetcher) confinement() confined.Options {
	return confined.Options{Program: f.o.Program, Demand: f.o.DemandConfinement}
}

// policy reads the rules anew: they may have changed since the last time.
func (f *Fetcher) policy() (*trust.Policy, error) {
	policy, err := trust.Load(f.o.TrustDirs...)
	if err != nil {
		return nil, fmt.Errorf("read trust policy: %w", err)
	}
	return policy, nil
}

func (f *Fetcher) emit(e Event) {
	if f.o.Progress == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.o.Progress(e)
}

// isMissing reports whether err says that the store lacks something, or has it
// damaged: fetching again mends both.
func isMissing(err error) bool {
	return errors.Is(err, image.ErrNotFound) || errors.Is(err, cas.ErrNotFound) || errors.Is(err, cas.ErrCorrupt)
}
