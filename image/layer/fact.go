// Package layer is the language in which the process that reads a layer's tar
// tells what is in it: facts. The reader (fetch/ingest) writes them with a
// Writer; the privileged side reads them with a Reader, which bounds every
// field, and image/rootfs makes the layer's index from them. Facts are claims
// of a process that has read attacker bytes: whoever reads them checks them.
package layer

// Kind is the type of an entry.
type Kind uint8

// The kinds. Devices and sockets have none: they become nothing and are
// counted in Summary.
const (
	Dir Kind = iota + 1
	Regular
	Symlink
	Hardlink // Link is the path of an earlier Regular, Symlink, Fifo or Hardlink of this layer
	Fifo
	Whiteout // hides Path of the layers below (".wh." already taken off)
	Opaque   // hides everything below Path that is in the layers below
)

// Limits of one fact and of one layer. A Reader and a Writer refuse more.
const (
	MaxPath      = 4096           // bytes of Path and Link
	MaxComponent = 255            // bytes of one name
	MaxDepth     = 255            // components of a path
	MaxXattrs    = 64             // of one entry
	MaxXattrName = 255            // bytes
	MaxXattr     = 64<<10 - 1     // bytes of one value; EROFS counts them with 16 bits
	MaxExtents   = 1 << 20        // of one sparse file
	MaxEntries   = 4 << 20        // of one layer
	MaxSize      = 1 << 50        // bytes of one file
	MaxAccounts  = 64 << 10       // lines of passwd or of group
	MaxFacts     = int64(2) << 30 // bytes of a facts file
	MaxMetadata  = 1 << 30        // bytes of all names, attributes and extents of one layer

	MaxAccountName = 256      // bytes of the name of a user or group
	MaxMembers     = 64 << 10 // of all groups
	MaxProblem     = 512      // bytes
)

// Fact is one entry of a layer, in the order of the tar. A later one of the
// same path replaces an earlier one, as tar means it; a Dir over a Dir changes
// its attributes only.
type Fact struct {
	// Path is clean, relative and slash-separated; the root is ".".
	Path string
	Kind Kind
	Mode uint16 // permission bits with setuid, setgid and sticky: 07777
	UID  uint32
	GID  uint32
	// Seconds and Nanos are the modification time since the epoch.
	Seconds int64
	Nanos   uint32
	// Link is the target of a Symlink (any bytes but NUL) or of a Hardlink (as Path).
	Link string
	// Xattrs are those that layers may carry: user.* and security.capability,
	// and never an overlay attribute.
	Xattrs []Xattr
	// Size is the logical size of a Regular, in bytes.
	Size uint64
	// Extents say where its bytes are in the tar, ascending and not
	// overlapping; what no extent covers is zero. A plain file has one, an
	// empty file none.
	Extents []Extent
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Extent maps Length bytes at Logical of the file to Offset of the tar.
type Extent struct {
	Logical, Offset, Length uint64
}

// Accounts are the users and groups a layer declares: what its etc/passwd and
// etc/group say when the layer has them. They are parsed where the tar is.
type Accounts struct {
	// HasPasswd and HasGroup: the layer brings the file, so the layers below do
	// not count. A file that is not a small regular one has the flag, no
	// entries, and a Problem.
	HasPasswd, HasGroup bool
	Users               []User
	Groups              []Group
	// Problem says why a file that is there was not read; "" = none.
	Problem string
}

// User is a line of etc/passwd.
type User struct {
	Name     string
	UID, GID uint32
	Home     string
}

// Group is a line of etc/group.
type Group struct {
	Name    string
	GID     uint32
	Members []string
}

// Summary ends a facts file; without it the file is cut off.
type Summary struct {
	Entries uint64
	// Devices and Sockets count the entries that became nothing.
	Devices, Sockets uint64
	// TarSize is the size of the tar in bytes.
	TarSize uint64
}
