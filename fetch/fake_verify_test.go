package fetch

import (
	"io"
	"os"
	"path"
	"strings"
	"time"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image/trust"
)

// signatures is what the fake finds: the last but one part of the repository,
// which tells the fake verifier what to do.
func (f *fake) signatures() []byte {
	deed := path.Base(path.Dir(f.request.Source.Repository))
	if !strings.HasPrefix(deed, "sign-") {
		return nil
	}
	return []byte(deed)
}

// verify is the fake as the process that verifies signatures.
func (f *fake) verify() {
	set, err := io.ReadAll(os.NewFile(wire.SourceFD, "source"))
	if err != nil {
		f.fail(wire.CodeOther, err.Error())
	}
	t := f.request.Trust
	digest, err := cas.ParseDigest(t.Digests[0])
	if err != nil {
		os.Exit(5)
	}
	signer := trust.Signer{Digest: digest, Key: strings.Repeat("0", 64)}
	if len(t.Keys) > 0 {
		k, err := trust.ParseKey([]byte(t.Keys[0]))
		if err != nil {
			f.fail(wire.CodeTrust, err.Error())
		}
		signer.Key = k.Fingerprint
	}
	stranger := trust.Signer{Digest: digest, Issuer: "https://issuer.example", Subject: "me@example.com", Time: time.Unix(1e9, 0).UTC(), Proof: "log"}
	f.deed(strings.TrimPrefix(string(set), "sign-"), signer, stranger, t)
}

func (f *fake) deed(deed string, signer, stranger trust.Signer, t *wire.Trust) {
	exit := 0
	switch deed {
	case "key":
		if len(t.Keys) == 0 {
			f.fail(wire.CodeSignature, "its signature is not accepted")
		}
		f.signer(wire.Signed, signer)
	case "identity":
		if len(t.Identities) == 0 {
			f.signer(wire.Stranger, stranger)
			f.fail(wire.CodeSignature, "its signature is not accepted")
		}
		f.signer(wire.Signed, stranger)
	case "none":
		f.fail(wire.CodeUnsigned, "it is not signed")
	case "bad":
		f.fail(wire.CodeSignature, "its signature is not accepted")
	case "crash":
		f.die()
	case "exit0":
		os.Exit(0)
	case "exit2":
		os.Exit(2)
	case "garbage":
		_, _ = f.report.WriteString(strings.Repeat("garbage", 100))
	case "hang":
		f.hang()
	case "other-digest":
		signer.Digest = cas.Of([]byte("other"))
		f.signer(wire.Signed, signer)
	case "other-key":
		signer.Key = strings.Repeat("1", 64)
		f.signer(wire.Signed, signer)
	case "other-identity":
		f.signer(wire.Signed, stranger)
	case "two":
		f.signer(wire.Signed, signer)
		f.signer(wire.Signed, signer)
	case "stranger":
		f.signer(wire.Stranger, stranger)
	case "stranger-with-key":
		f.signer(wire.Stranger, signer)
	case "dies-late":
		f.signer(wire.Signed, signer)
		f.die()
	case "fails-late":
		f.signer(wire.Signed, signer)
		f.fail(wire.CodeSignature, "its signature is not accepted")
	case "exits-badly":
		f.signer(wire.Signed, signer)
		exit = 3
	case "resolves":
		f.send(wire.Message{Type: wire.Resolved})
	case "flood":
		for {
			f.signer(wire.Stranger, stranger)
		}
	}
	f.send(wire.Message{Type: wire.Done})
	os.Exit(exit)
}

func (f *fake) signer(t wire.Type, s trust.Signer) {
	m, err := wire.NewSigner(t, s)
	if err != nil {
		f.fail(wire.CodeOther, err.Error())
	}
	f.send(m)
}
