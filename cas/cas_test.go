package cas_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"rkt/cas"
	"rkt/cas/castest"
)

func TestStore(t *testing.T) { castest.Run(t, cas.Open) }

func TestParseDigest(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	d, err := cas.ParseDigest("sha256:" + hex)
	if err != nil || d.Hex() != hex || d.String() != "sha256:"+hex || d.IsZero() {
		t.Errorf("ParseDigest() = %v, %v", d, err)
	}
	if again, err := cas.FromHex(hex); err != nil || again != d {
		t.Errorf("FromHex() = %v, %v", again, err)
	}
	for _, s := range []string{
		"", "sha256:", hex, "sha256:" + hex[1:], "sha256:" + hex + "0", "sha256:" + strings.ToUpper(hex),
		"SHA256:" + hex, "sha256:" + hex + "\n", " sha256:" + hex, "sha256:../../../../../../../../../../../../../../../../../../etc/passwd",
		"sha256:" + hex[:62] + "/a", "sha256:" + hex[:62] + "\x00a", "sha512:" + hex + hex, "md5:" + hex[:32],
		"sha256+b64:" + hex, "sha256:sha256:" + hex, "sha256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("é", 32),
	} {
		if got, err := cas.ParseDigest(s); !errors.Is(err, cas.ErrDigest) || !got.IsZero() {
			t.Errorf("ParseDigest(%q) = %v, %v, want ErrDigest", s, got, err)
		}
	}
}

func TestDigestInJSON(t *testing.T) {
	type document struct {
		D    cas.Digest         `json:"d,omitzero"`
		Keys map[cas.Digest]int `json:"keys,omitempty"`
	}
	d := cas.Of([]byte("x"))
	b, err := json.Marshal(document{d, map[cas.Digest]int{d: 1}})
	if err != nil {
		t.Fatal(err)
	}
	var got document
	if err := json.Unmarshal(b, &got); err != nil || got.D != d || got.Keys[d] != 1 {
		t.Errorf("%s decodes to %+v, %v", b, got, err)
	}
	if b, err := json.Marshal(document{}); err != nil || string(b) != "{}" {
		t.Errorf("the zero digest encodes to %s, %v", b, err)
	}
	if _, err := json.Marshal(cas.Digest{}); !errors.Is(err, cas.ErrDigest) {
		t.Errorf("the zero digest has a text: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"d":"sha256:../x"}`), &got); !errors.Is(err, cas.ErrDigest) {
		t.Errorf("a malformed digest decodes: %v", err)
	}
}
