package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
	"rkt/internal/strictjson"
)

const (
	indexType = "application/vnd.oci.image.index.v1+json"
	// maxPages and maxReferrers bound what is read of the list of referrers.
	maxPages     = 4
	maxReferrers = 1000
)

// Referrer is a manifest that says that it is about another one.
type Referrer struct {
	Digest       cas.Digest
	Size         int64
	ArtifactType string
	Annotations  map[string]string
}

// Referrers returns what refers to the manifest with a digest and is of a type: by
// the API for that or, where the registry says that it has none, and only then, by
// the tag that stands for it. more is set when there are others that were not
// read. No list is an empty one.
func (c *Client) Referrers(ctx context.Context, digest cas.Digest, artifactType string, limit int64) (list []Referrer, more bool, err error) {
	path := c.path("referrers", digest.String()) + "?artifactType=" + url.QueryEscape(artifactType)
	for page := 0; path != ""; page++ {
		if page == maxPages || len(list) > maxReferrers {
			return list, true, nil
		}
		b, next, err := c.index(ctx, path, limit)
		if err != nil && page == 0 && (fault.Code(err) == wire.CodeNotFound || mutant.On("anyfallback")) {
			path = c.path("manifests", "sha256-"+digest.Hex())
			b, next, err = c.index(ctx, path, limit)
			if fault.Code(err) == wire.CodeNotFound {
				return nil, false, nil
			}
		}
		if err != nil {
			return nil, false, fmt.Errorf("list what refers to %v in %s/%s: %w", digest, c.end.Host, c.repository, err)
		}
		found, err := parseReferrers(b, artifactType)
		if err != nil {
			return nil, false, fmt.Errorf("list what refers to %v in %s/%s: %w", digest, c.end.Host, c.repository, err)
		}
		list, path = append(list, found...), next
	}
	return list, false, nil
}

// index reads an index and the path of the page after it; "" = there is none.
func (c *Client) index(ctx context.Context, path string, limit int64) (b []byte, next string, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		resp, err := c.get(ctx, path, http.Header{"Accept": {indexType}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err = readBounded(resp, limit); err != nil {
			return err
		}
		mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if mediaType != indexType {
			return fault.New(wire.CodeType, "it is of the type %.100q, not an index", mediaType)
		}
		next, err = c.nextPage(resp)
		return err
	})
	return b, next, err
}

// nextPage returns the path in the header Link, which must stay in this list.
func (c *Client) nextPage(resp *http.Response) (string, error) {
	link := resp.Header.Get("Link")
	if link == "" {
		return "", nil
	}
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.HasPrefix(link, "<") || !strings.Contains(rest, `rel="next"`) {
		return "", nil
	}
	u, err := resp.Request.URL.Parse(target)
	if err != nil {
		return "", fault.New(wire.CodeNetwork, "next page %.100q: %w", target, err)
	}
	if u.Host != c.base.Host || u.Scheme != c.base.Scheme || !strings.HasPrefix(u.Path, c.path("referrers", "")) {
		return "", fault.New(wire.CodeNetwork, "the next page is elsewhere: %.100q", target)
	}
	return u.Path + "?" + u.RawQuery, nil
}

// parseReferrers reads an index leniently where it may be: entries of other types
// are somebody else's.
func parseReferrers(b []byte, artifactType string) ([]Referrer, error) {
	var index struct {
		SchemaVersion int             `json:"schemaVersion"`
		Manifests     json.RawMessage `json:"manifests"`
	}
	if err := strictjson.Decode(b, &index, strictjson.Options{AllowUnknown: true}); err != nil {
		return nil, fault.New(wire.CodeType, "read index: %w", err)
	}
	if index.Manifests == nil {
		return nil, fault.New(wire.CodeType, "read index: %w", errors.New("it has no list"))
	}
	var entries []struct {
		ArtifactType string            `json:"artifactType"`
		Digest       string            `json:"digest"`
		Size         int64             `json:"size"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := strictjson.Decode(index.Manifests, &entries, strictjson.Options{AllowUnknown: true}); err != nil {
		return nil, fault.New(wire.CodeType, "read index: %w", err)
	}
	var list []Referrer
	for _, e := range entries {
		d, err := cas.ParseDigest(e.Digest)
		if e.ArtifactType != artifactType || err != nil || e.Size < 0 {
			continue
		}
		list = append(list, Referrer{Digest: d, Size: e.Size, ArtifactType: e.ArtifactType, Annotations: e.Annotations})
	}
	return list, nil
}
