package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The account that a registry with tokens knows.
const (
	registryUser     = "tester"
	registryPassword = "correct horse"
)

// registry is a distribution registry on loopback, with TLS by a CA of its own
// and tokens from a server beside it.
type registry struct {
	t    testing.TB
	addr string // 127.0.0.1:port
	ca   string // path of the CA's certificate
	dir  string
}

// newRegistry starts a registry that asks for tokens.
func newRegistry(t testing.TB) *registry {
	t.Helper()
	r := &registry{t: t, dir: t.TempDir(), addr: freeAddress(t)}
	ca := newAuthority(t)
	r.ca = filepath.Join(r.dir, "ca.crt")
	writePEM(t, r.ca, "CERTIFICATE", ca.der)
	serverCert, serverKey := ca.issue(t, r.dir, "server")
	auth := startTokenServer(t, ca, r.dir)

	config := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}
http: {addr: %q, tls: {certificate: %s, key: %s}}
auth: {token: {realm: %q, service: registry, issuer: tests, rootcertbundle: %s}}
`, filepath.Join(r.dir, "data"), r.addr, serverCert, serverKey, auth, r.ca)
	path := filepath.Join(r.dir, "config.yml")
	write(t, path, config)

	cmd := exec.Command(program("tests/registry"), "serve", path)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none", "PATH=" + os.Getenv("PATH")}
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	eventually(t, func() error {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			return fmt.Errorf("the registry does not answer: %w", err)
		}
		return c.Close()
	})
	return r
}

// push copies the layout of a test image to repository:latest.
func (r *registry) push(name, repository string) (ref string) {
	r.t.Helper()
	ref = r.addr + "/" + repository + ":latest"
	certs := filepath.Join(r.dir, "certs")
	if err := os.MkdirAll(certs, 0o755); err != nil {
		r.t.Fatal(err)
	}
	ca, err := os.ReadFile(r.ca)
	if err != nil {
		r.t.Fatal(err)
	}
	write(r.t, filepath.Join(certs, "ca.crt"), string(ca))
	cmd := exec.Command("skopeo", "copy", "--insecure-policy", "--dest-cert-dir="+certs,
		"--dest-creds="+registryUser+":"+registryPassword, "oci:"+layout(r.t, name)+":latest", "docker://"+ref)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("push %s: %v: %s", ref, err, out)
	}
	return ref
}

// authority is a certificate authority.
type authority struct {
	der  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{der: der, cert: cert, key: key}
}

// issue writes a certificate for 127.0.0.1 and localhost, and its key.
func (a *authority) issue(t testing.TB, dir, name string) (certPath, keyPath string) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	writePEM(t, certPath, "CERTIFICATE", der)
	writePEM(t, keyPath, "EC PRIVATE KEY", private)
	return certPath, keyPath
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// startTokenServer serves the Docker token protocol for the account over TLS
// and returns the realm. Tokens are signed by the authority itself.
func startTokenServer(t testing.TB, ca *authority, dir string) (realm string) {
	t.Helper()
	certPath, keyPath := ca.issue(t, dir, "token")
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		user, password, ok := q.BasicAuth()
		if !ok || user != registryUser || password != registryPassword {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"token": ca.token(q.URL.Query()["scope"]), "expires_in": 300})
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "https://" + l.Addr().String() + "/token"
}

// token is a JSON web token for the scopes, as the distribution registry reads it.
func (a *authority) token(scopes []string) string {
	access := []map[string]any{}
	for _, s := range scopes {
		if p := strings.SplitN(s, ":", 3); len(p) == 3 {
			access = append(access, map[string]any{"type": p[0], "name": p[1], "actions": strings.Split(p[2], ",")})
		}
	}
	now := time.Now().Unix()
	header := map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(a.der)}}
	claims := map[string]any{
		"iss": "tests", "aud": "registry", "sub": registryUser, "iat": now, "nbf": now - 10, "exp": now + 300,
		"jti": rand.Text(), "access": access,
	}
	signed := segment(header) + "." + segment(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, sum[:])
	if err != nil {
		panic(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

func segment(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
