package ingest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rkt/fetch/wire"
)

// RG-02: sizes of descriptors that no arithmetic survives, or that nobody has
// the disk for.
func TestSizesOfDescriptors(t *testing.T) {
	for size, words := range map[string]string{
		"0": "", "-1": "", "9223372036854775807": "", "18446744073709551615": "", "1e3": "", "1125899906842624": "",
	} {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			var e *evilRegistry
			image := smallImage(t)
			manifest := strings.Replace(string(image.blobs[image.manifest]),
				fmt.Sprintf(`"size":%d`, len(image.blobs[image.layers[0]])), `"size":`+size, 1)
			e = newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				if isManifest(r) {
					io.WriteString(w, manifest)
				}
				return isManifest(r)
			})
			r := serveAll(t, e.request(), nil)
			if m := r.last(); r.err == nil || m.Type != wire.Failed || !strings.Contains(m.Text, words) {
				t.Errorf("size %s: %v, %+v", size, r.err, m)
			}
		})
	}
}

// RG-07: addresses that a manifest names for a layer are asked for nothing.
func TestForeignLayersComeFromTheRegistry(t *testing.T) {
	var asked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	i := smallImage(t)
	var layers []object
	var diffs []string
	for n, packing := range []string{ociGzip, ociZstd, ociTar} {
		d := descriptorOf(packing, i.blobs[i.layers[n]])
		d["urls"] = []string{other.URL + "/layer"}
		layers = append(layers, d)
		diffs = append(diffs, digestOf(i.tars[n]))
	}
	i.setConfig(t, diffs, layers)
	r := serveAll(t, newEvilRegistry(t, i, nil).request(), nil)
	if asked.Load() != 0 {
		t.Errorf("%d requests went to an address in the manifest", asked.Load())
	}
	r.wantImage(t, i)
}

// RG-11: what is sent is hashed as it is sent, whatever the registry calls it.
func TestEncodingsAreNotUndone(t *testing.T) {
	i := smallImage(t)
	var e *evilRegistry
	e = newEvilRegistry(t, i, func(w http.ResponseWriter, r *http.Request) bool {
		if e.isLayer(r, 0) {
			w.Header().Set("Content-Encoding", "gzip")
		}
		return false
	})
	r := serveAll(t, e.request(), nil)
	r.wantImage(t, i)
}

// RG-16: a proxy of the environment is used for names that are not of this
// machine, and only the process with the network is told about it.
func TestProxyIsUsed(t *testing.T) {
	i := smallImage(t)
	e := newEvilRegistry(t, i, nil)
	var mu sync.Mutex
	var connects []string
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				r := bufio.NewReader(client)
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				mu.Lock()
				connects = append(connects, request.Method+" "+request.Host+" "+request.Header.Get("Proxy-Authorization"))
				mu.Unlock()
				server, err := net.Dial("tcp", e.host())
				if err != nil {
					return
				}
				defer server.Close()
				fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n")
				go io.Copy(server, r)
				io.Copy(client, server)
			}()
		}
	}()
	t.Setenv("HTTPS_PROXY", "http://user:password@"+l.Addr().String())
	request := e.request()
	request.Source.Endpoints[0].Host = "example.com:443" // which the certificate of the test names
	r := serveAll(t, request, nil)
	r.wantImage(t, i)
	mu.Lock()
	defer mu.Unlock()
	if len(connects) == 0 {
		t.Fatal("the proxy was not asked")
	}
	for _, c := range connects {
		if c != "CONNECT example.com:443 Basic dXNlcjpwYXNzd29yZA==" {
			t.Errorf("the proxy was asked %q", c)
		}
	}
}
