// Package wire is what fetch and rkt-fetch say to each other: one request,
// then small typed messages over two pipes. Bulk never passes here: it lies in
// the spool folder, whose fd both hold. Messages from rkt-fetch come from a
// process that reads attacker bytes; Receive bounds and checks each one, and
// the text in them is escaped before it is shown.
package wire

// Version is the version of the protocol; both ends are installed together.
const Version = 1

// File descriptors that rkt-fetch is started with. Which of them a role has is
// said at the role.
const (
	SpoolFD  = 3 // a folder, the only place it may make files in
	ReportFD = 4 // it writes Messages here
	OrderFD  = 5 // it reads the Request, then Orders, here
	SourceFD = 6 // what it reads: a local image, a layer as it was sent, a tar
	TarFD    = 7 // a file for the tar of a layer
	FactsFD  = 8 // a file for the facts of a layer
)

// Names of the files it leaves in the spool folder.
const (
	IndexFile    = "index"    // the image index, when the reference led through one
	ManifestFile = "manifest" // the image manifest; synthesised for a docker archive
	ConfigFile   = "config"   // the image config
	// SignaturesFile has the signatures that were found, when they were asked for.
	SignaturesFile = "signatures"
	// LayerTar takes the layer's position: a tar that was in the folder anyway, see Given.
	LayerTar = "layer-%d.tar"
	// LayerFacts likewise; the privileged side makes it.
	LayerFacts = "layer-%d.facts"
	// LayerBlob keeps the bytes as they came, with --keep-compressed.
	LayerBlob = "layer-%d.blob"
	// UnpackDir is the folder that Unpack makes.
	UnpackDir = "root"
)

// Mode is what rkt-fetch is to do.
type Mode string

// The modes.
const (
	Fetch   Mode = "fetch"   // an image: documents into the spool, layers into pipes
	Inflate Mode = "inflate" // a layer as it was sent, on SourceFD: tar and facts
	Scan    Mode = "scan"    // facts of the tar on SourceFD
	Unpack  Mode = "unpack"  // the tar on SourceFD unpacked into the spool folder "root"
	Verify  Mode = "verify"  // the signatures on SourceFD held against Trust; no spool, no network
)

// Request is the first message to rkt-fetch, as one line of JSON.
type Request struct {
	Version  int      `json:"version"`
	Mode     Mode     `json:"mode"`
	Source   Source   `json:"source"`
	Platform Platform `json:"platform"`
	// Parallel is how many layers are worked on at once; 0 = a default.
	Parallel int  `json:"parallel,omitempty"`
	KeepBlob bool `json:"keepBlob,omitempty"`
	// StallSeconds ends a transfer that brings nothing for so long; 0 = a default.
	StallSeconds int `json:"stallSeconds,omitempty"`
	// Packing is how the layer for Inflate is compressed: "", "gzip" or "zstd".
	Packing string `json:"packing,omitempty"`
	// Budget bounds the tar that Inflate makes, in bytes.
	Budget int64 `json:"budget,omitempty"`
	// Trust is for Verify.
	Trust *Trust `json:"trust,omitempty"`
}

// Kind is where an image comes from.
type Kind string

// The kinds of sources.
const (
	Registry      Kind = "registry"
	Layout        Kind = "oci"            // an OCI image layout, whose files are asked for by Open
	OCIArchive    Kind = "oci-archive"    // SourceFD is a tar of one, maybe compressed; may be a pipe
	DockerArchive Kind = "docker-archive" // SourceFD is a `docker save` tar, maybe compressed; may be a pipe
	AnyArchive    Kind = "archive"        // one of the two; rkt-fetch finds out
)

// Source says which image.
type Source struct {
	Kind Kind `json:"kind"`
	// Tag and Digest select the image; Digest ("sha256:<hex>") wins.
	Tag    string `json:"tag,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Repository and Endpoints are for a registry. Endpoints are tried in
	// order: mirrors, then the registry itself.
	Repository string     `json:"repository,omitempty"`
	Endpoints  []Endpoint `json:"endpoints,omitempty"`
	// Signatures asks for the signatures of the image too; not for a local one.
	Signatures bool `json:"signatures,omitempty"`
}

// Endpoint is one registry host with what may be sent to it.
type Endpoint struct {
	Host string `json:"host"` // host[:port]
	HTTP bool   `json:"http,omitempty"`
	// CAs are PEM certificates trusted for this host besides the system's.
	CAs string `json:"cas,omitempty"`
	// User and Password are for basic authentication and for asking for a
	// token; IdentityToken is a refresh token; RegistryToken a ready bearer token.
	User          string `json:"user,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identityToken,omitempty"`
	RegistryToken string `json:"registryToken,omitempty"`
	// TokenHosts are further hosts that the credentials may be sent to when the
	// registry names them as its token server. Its own host, and hosts below
	// the same parent domain, need no entry.
	TokenHosts []string `json:"tokenHosts,omitempty"`
	// SkipTLSVerify is set by --insecure-options=tls; credentials are not sent then.
	SkipTLSVerify bool `json:"skipTLSVerify,omitempty"`
}

// Platform is the platform to choose from an index.
type Platform struct {
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Variant string `json:"variant,omitempty"`
}

// Type is the type of a Message or an Order.
type Type uint8

// Messages. Every role begins with Confined, before it gets the request, and
// ends with Done or Failed. The one that fetches an image says Resolved; then,
// after an Order to go on, Need, Progress, Layer and Given as they happen.
const (
	Resolved Type = iota + 1 // Index, Manifest, Config are in the spool
	Progress                 // Layer has Bytes of Total (compressed)
	Layer                    // all of Layer has been sent through its pipe, and was right
	Note                     // Text for the user (retry, fallback); may come at any time
	Done
	Failed   // Code and Text say why
	Signed   // of a Verify, before Done: Text is the Signer whose signature is accepted
	Stranger // of a Verify: Text is a Signer who is none of those in Trust
	Confined // Bytes has the Lines in force, of those in Total; Text says why the others are not
	// Need asks for something and is answered by a Grant. Of the one that fetches:
	// a pipe to what inflates Layer anew from its first byte. Of what inflates:
	// Bytes of memory.
	Need
	Given // the tar of Layer lies in the spool as LayerTar, and is right
	Open  // asks for the file Text of the image layout; Bytes is the number of the Grant
)

// Message is what rkt-fetch reports.
type Message struct {
	Type  Type
	Layer uint32 // position in the manifest
	Bytes uint64
	Total uint64
	Code  Code
	Text  string // at most MaxText bytes
}

// MaxText bounds the text of a message in bytes.
const MaxText = 2048

// Code classifies a failure, so that the front end can give a hint.
type Code uint8

// The codes.
const (
	CodeOther     Code = iota
	CodeNotFound       // no such repository, tag, digest or file
	CodeDenied         // credentials missing or refused
	CodeDigest         // bytes do not have the promised digest or size
	CodeType           // a media type that rkt does not know
	CodePlatform       // the index has no manifest for the platform
	CodeTooLarge       // a manifest, config or layer over its limit
	CodeLayer          // the layer's tar is malformed or hostile
	CodeNetwork        // connection, TLS, time-out, server error
	CodeStall          // nothing came for too long
	CodeSpace          // the spool's filesystem is full
	CodePlainHTTP      // the registry answers in plain http
	CodeUnsigned       // of a Verify: there is no signature at all
	CodeSignature      // of a Verify: no signature is one that Trust accepts
	CodeTrust          // of a Verify: a key, an identity or the root in Trust is unusable
)

// Order is what fetch answers to Resolved: which layers to bring (true = bring,
// by position). None of them means that rkt-fetch ends with Done.
type Order struct {
	Want []bool
}
