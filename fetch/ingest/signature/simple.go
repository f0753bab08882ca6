package signature

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/bundle"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
	"rkt/internal/strictjson"
)

// The annotations of a simple signature.
const (
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationBundle      = "dev.sigstore.cosign/bundle"
	annotationTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"
)

// Annotations are those that a SimpleSigning item has; others are of no use.
func Annotations() []string {
	return []string{annotationSignature, annotationCertificate, annotationBundle, annotationTimestamp}
}

const (
	simpleType   = "cosign container image signature"
	maxSimple    = 64 << 10 // bytes of a payload
	bundleType01 = "application/vnd.dev.sigstore.bundle+json;version=0.1"
)

// claim is the payload of a simple signature.
type claim struct {
	Critical struct {
		Type  string `json:"type"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// newSimple reads a simple signature. Its parts are put into the form of a
// bundle, so that there is one way to verify.
func newSimple(item Item, t wire.Trust) (*entity, error) {
	var c claim
	if err := strictjson.Decode(item.Payload, &c, strictjson.Options{MaxBytes: maxSimple}); err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	if c.Critical.Type != simpleType {
		return nil, fmt.Errorf("it is no signature of an image but of the type %.100q", c.Critical.Type)
	}
	if !slices.Contains(t.Digests, c.Critical.Image.Digest) && !mutant.On("anydigest") {
		return nil, errors.New("it is of another image")
	}
	if err := sameName(c.Critical.Identity.Reference, t.Name); err != nil {
		return nil, err
	}
	b, byCertificate, err := simpleBundle(item)
	if err != nil {
		return nil, err
	}
	e := &entity{form: SimpleSigning, artifact: reader(item.Payload), byCertificate: byCertificate}
	if e.digest, err = cas.ParseDigest(c.Critical.Image.Digest); err != nil {
		return nil, err
	}
	if e.bundle, err = bundle.NewBundle(b); err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	return e, nil
}

// simpleBundle makes a bundle of the annotations.
func simpleBundle(item Item) (_ *protobundle.Bundle, byCertificate bool, err error) {
	sig, err := base64.StdEncoding.DecodeString(item.Annotations[annotationSignature])
	if err != nil || len(sig) == 0 {
		return nil, false, errors.New("it has no signature")
	}
	sum := sha256.Sum256(item.Payload)
	b := &protobundle.Bundle{
		MediaType: bundleType01,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
			Signature:     sig,
		}},
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{}},
		},
	}
	material := b.VerificationMaterial
	if text := item.Annotations[annotationCertificate]; text != "" {
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, false, errors.New("its certificate is not in PEM form")
		}
		material.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &protocommon.X509CertificateChain{
			Certificates: []*protocommon.X509Certificate{{RawBytes: block.Bytes}},
		}}
		byCertificate = true
	}
	if text := item.Annotations[annotationBundle]; text != "" {
		entry, err := logEntry(text)
		if err != nil {
			return nil, false, fmt.Errorf("read log entry: %w", err)
		}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if text := item.Annotations[annotationTimestamp]; text != "" {
		var stamp struct{ SignedRFC3161Timestamp []byte }
		if err := strictjson.Decode([]byte(text), &stamp, strictjson.Options{MaxBytes: MaxPayload}); err != nil {
			return nil, false, fmt.Errorf("read timestamp: %w", err)
		}
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp.SignedRFC3161Timestamp}},
		}
	}
	return b, byCertificate, nil
}

// logEntry reads the entry of a log as cosign writes it down: with the promise of
// the log to include it, which is signed.
func logEntry(text string) (*protorekor.TransparencyLogEntry, error) {
	var offline struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := strictjson.Decode([]byte(text), &offline, strictjson.Options{MaxBytes: MaxPayload}); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(offline.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("log %.100q: %w", offline.Payload.LogID, err)
	}
	var kind struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	if err := strictjson.Decode(offline.Payload.Body, &kind, strictjson.Options{AllowUnknown: true, MaxBytes: MaxPayload}); err != nil {
		return nil, err
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          offline.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		KindVersion:       &protorekor.KindVersion{Kind: kind.Kind, Version: kind.Version},
		IntegratedTime:    offline.Payload.IntegratedTime,
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: offline.SignedEntryTimestamp},
		CanonicalizedBody: offline.Payload.Body,
	}, nil
}
