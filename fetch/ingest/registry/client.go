// Package registry reads images from a registry by the OCI distribution
// protocol: manifests, and blobs as streams that survive broken connections. It
// decides for each request who may see the credentials, which hosts may be
// talked to, and how often and how long to try. It does not look into what it
// brings: digests are checked by the caller, sizes are bounded here. Start with
// New, Client.Manifest and Client.Blob.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
)

// Options of a client; zero values mean defaults.
type Options struct {
	// Stall ends a connection that brings nothing for so long, or next to
	// nothing for twice as long.
	Stall time.Duration
	// Pause is the first pause before a request is repeated; later ones are
	// longer.
	Pause time.Duration
	// Spare says that somebody else can be asked instead: an endpoint that
	// refuses connections is not tried again.
	Spare bool
	// Note is told what is done about a failure; it may be called by several
	// goroutines at once.
	Note func(text string)
}

const (
	defaultStall = 30 * time.Second
	defaultPause = 500 * time.Millisecond
	maxHeader    = 64 << 10 // bytes of the headers of an answer
)

// Client talks to one registry host about one repository. It may be used by
// several goroutines.
type Client struct {
	end        wire.Endpoint
	base       *url.URL // scheme and host
	repository string
	o          Options
	own        *http.Transport // to the registry itself
	foreign    *http.Transport // to where it sends us
	reach      *reach

	mu     sync.Mutex
	header string // the Authorization that the registry accepted last
}

// New returns a client for an endpoint. Close it. Nothing is sent yet.
func New(end wire.Endpoint, repository string, o Options) (*Client, error) {
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	if o.Pause == 0 {
		o.Pause = defaultPause
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	roots, err := roots(end.CAs)
	if err != nil {
		return nil, fmt.Errorf("trust the certificates for %q: %w", end.Host, err)
	}
	scheme := "https"
	if end.HTTP {
		scheme = "http"
	}
	c := &Client{end: end, base: &url.URL{Scheme: scheme, Host: end.Host}, repository: repository, o: o, reach: &reach{}}
	c.own = transport(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, InsecureSkipVerify: end.SkipTLSVerify || mutant.On("anycert")}, c.reach.dialOwn, o.Stall)
	// The certificates are good for where the registry leads to as well: what
	// comes from there is no secret and checked by digest.
	c.foreign = transport(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, c.reach.dialForeign, o.Stall)
	if end.RegistryToken != "" && c.mayAuthorize() {
		c.header = "Bearer " + end.RegistryToken
	}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() {
	c.own.CloseIdleConnections()
	c.foreign.CloseIdleConnections()
}

// Host is the name of the registry host, for messages.
func (c *Client) Host() string { return c.end.Host }

// roots are the system's certificates and more; nil means the system's.
func roots(more string) (*x509.CertPool, error) {
	if more == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM([]byte(more)) {
		return nil, fmt.Errorf("no certificate in PEM form among them")
	}
	return pool, nil
}

// transport speaks HTTP/1.1 only: each layer has its own connection and so its
// own flow control, and there is less protocol for a stranger to abuse. It never
// decompresses: a digest is that of the bytes as they are sent.
func transport(config *tls.Config, dial dialer, stall time.Duration) *http.Transport {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    stall,
		ResponseHeaderTimeout:  stall,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		ReadBufferSize:         64 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if mutant.On("noproxy") {
		t.Proxy = nil
	}
	return t
}

// Document is a manifest or an index as the registry sent it.
type Document struct {
	Bytes []byte
	// MediaType is what the registry says it is, without parameters.
	MediaType string
	// Digest is what the registry says its digest is; zero if it does not.
	Digest cas.Digest
}

// accepted are the media types of manifests that rkt understands. Those of
// Docker's first schema are not among them.
const accepted = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

// Manifest reads the manifest or index that a tag or digest names. More than
// limit bytes are wire.CodeTooLarge; one byte past limit is all that is read.
func (c *Client) Manifest(ctx context.Context, reference string, limit int64) (Document, error) {
	var doc Document
	err := c.retry(ctx, func(ctx context.Context) error {
		resp, err := c.get(ctx, c.path("manifests", reference), http.Header{"Accept": {accepted}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if doc.Bytes, err = readBounded(resp, limit); err != nil {
			return err
		}
		doc.MediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if text := resp.Header.Get("Docker-Content-Digest"); text != "" {
			if doc.Digest, err = cas.ParseDigest(text); err != nil && strings.HasPrefix(text, "sha256:") && !mutant.On("loosedigest") {
				return fault.New(wire.CodeDigest, "registry names the digest of %q: %w", reference, err)
			}
		}
		return nil
	})
	if err != nil {
		return Document{}, fmt.Errorf("read manifest %q of %s/%s: %w", reference, c.end.Host, c.repository, err)
	}
	return doc, nil
}

// Bytes reads a small blob, such as a config, of size bytes. It does not check
// the digest. A body of another size is wire.CodeDigest.
func (c *Client) Bytes(ctx context.Context, digest cas.Digest, size int64) ([]byte, error) {
	var b []byte
	err := c.retry(ctx, func(ctx context.Context) error {
		resp, err := c.get(ctx, c.path("blobs", digest.String()), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err = io.ReadAll(io.LimitReader(resp.Body, size+1)); err != nil {
			return broken(err)
		}
		if int64(len(b)) != size {
			return fault.New(wire.CodeDigest, "it has at least %d bytes, want %d", len(b), size)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read blob %v of %s/%s: %w", digest, c.end.Host, c.repository, err)
	}
	return b, nil
}

func (c *Client) path(kind, reference string) string {
	return "/v2/" + c.repository + "/" + kind + "/" + reference
}

// readBounded reads the body of an answer of at most limit bytes.
func readBounded(resp *http.Response, limit int64) ([]byte, error) {
	tooLarge := fault.New(wire.CodeTooLarge, "it is larger than %d bytes", limit)
	if resp.ContentLength > limit {
		return nil, tooLarge
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, broken(err)
	}
	if int64(len(b)) > limit && !mutant.On("nomanifestlimit") {
		return nil, tooLarge
	}
	return b, nil
}
