package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// files are what is put into every guest, by path.
//
//go:embed all:guest
var files embed.FS

// recipe says how a guest disk is made.
type recipe struct {
	Name, Suite string
	Packages    []string
}

// basics are the packages of every guest: what boots, and what tests use.
var basics = []string{
	"linux-image-cloud-amd64", "systemd-sysv", "systemd-container", "udev", "dbus", "apparmor", "kmod", "iproute2", "procps", "e2fsprogs",
	"umoci", "skopeo", "strace", "acl", "attr", "libcap2-bin", "busybox-static", "nftables",
}

func findRecipe(name string) (recipe, error) {
	switch name {
	case "debian12":
		return recipe{Name: name, Suite: "bookworm", Packages: basics}, nil
	case "debian13":
		// With a seed cloud-init sets the machine up. The rest are peers to measure rkt beside.
		more := []string{"cloud-init", "openssh-client", "podman", "conmon", "crun", "containerd", "runc"}
		return recipe{Name: name, Suite: "trixie", Packages: slices.Concat(basics, more)}, nil
	}
	return recipe{}, fmt.Errorf("there is no guest of that name")
}

// key changes whenever the recipe or a file that goes into the guest does.
func (r recipe) key() (string, error) {
	b, err := json.Marshal([]any{r, enabled, masked, mountPoints, settled})
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	sum.Write(b)
	err = fs.WalkDir(files, rootFiles, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := files.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n", path, len(b))
		sum.Write(b)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}

// What guest/ holds: files of the guest disk, and the script that goes with
// the programs.
const (
	rootFiles = "guest/root"
	script    = "guest/run"
)

var (
	// enabled are units by what wants them.
	enabled = map[string]string{
		"rkt-booted.service": "multi-user.target",
		"rkt-tests.service":  `dev-disk-by\x2did-virtio\x2drkt\x2dprograms.device`,
	}
	// masked is what waits for a person, or wakes up in the middle of a test. A
	// generator of podman's would read the same files as rkt's.
	masked = []string{
		"system/serial-getty@ttyS0.service", "system/getty@tty1.service", "system/apt-daily.timer", "system/apt-daily-upgrade.timer",
		"system/dpkg-db-backup.timer", "system/e2scrub_all.timer", "system/fstrim.timer", "system/e2scrub_reap.service",
		"system/systemd-binfmt.service", "system/systemd-pcrlock-make-policy.service", "system/containerd.service",
		"system/netavark-dhcp-proxy.socket", "system/netavark-dhcp-proxy.service", "system-generators/podman-system-generator",
	}
	mountPoints = []string{"rkt", "rkt-images", "var/cache/rkt-tests"}
	// With settled, no boot is a first boot.
	settled = map[string]string{
		"etc/hostname": "guest\n", "etc/machine-id": "5ae4c0ff33de4b6e8a7d3a52c1f60b91\n", "etc/.updated": "", "var/.updated": "",
	}
)

// diskSize is room for the system and for what tests write. The file is sparse.
const diskSize = "6G"

// guest is a folder with the files disk, kernel and initrd.
type guest string

// makeGuest returns the guest of r from the cache dir and makes it on first use.
// Two that make the same one wait for each other.
func makeGuest(ctx context.Context, dir string, r recipe) (guest, error) {
	key, err := r.key()
	if err != nil {
		return "", err
	}
	final := filepath.Join(dir, r.Name+"-"+key)
	return guest(final), once(final, func(tmp string) error {
		fmt.Fprintf(os.Stderr, "vm: make the disk of %s (once)\n", r.Name)
		root := filepath.Join(tmp, "root")
		defer os.RemoveAll(root)
		if err := command(ctx, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\"",
			"--include="+strings.Join(r.Packages, ","), r.Suite, root); err != nil {
			return err
		}
		if err := configure(root); err != nil {
			return err
		}
		for name, pattern := range map[string]string{"kernel": "boot/vmlinuz-*", "initrd": "boot/initrd.img-*"} {
			found, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil || len(found) != 1 {
				return fmt.Errorf("the guest has %d files %s, want 1", len(found), pattern)
			}
			if err := os.Rename(found[0], filepath.Join(tmp, name)); err != nil {
				return err
			}
		}
		return makeDisk(ctx, filepath.Join(tmp, "disk"), root, "rkt-root", diskSize)
	})
}

// configure puts our files into a guest's root, and starts nothing that waits
// for a person.
func configure(root string) error {
	ours, err := fs.Sub(files, rootFiles)
	if err != nil {
		return err
	}
	if err := copyOver(root, ours); err != nil {
		return err
	}
	manager := filepath.Join(root, "etc/systemd")
	links := map[string]string{}
	for unit, by := range enabled {
		links[filepath.Join(manager, "system", by+".wants", unit)] = "../" + unit
	}
	for _, path := range masked {
		links[filepath.Join(manager, path)] = "/dev/null"
	}
	for path, target := range links {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	for _, path := range mountPoints {
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			return err
		}
	}
	for path, content := range settled {
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyOver copies the files of from to the folder dir, over those that are there.
func copyOver(dir string, from fs.FS) error {
	return fs.WalkDir(from, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, path)
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		b, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
}

// once makes the folder final by make, which is given a folder that becomes
// final when it is complete.
func once(final string, make func(tmp string) error) error {
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(final+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(final); err == nil {
		return nil
	}
	tmp := final + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := make(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, final)
}

// makeDisk makes the file disk: an ext4 filesystem with what is in the folder
// dir. Without a size it is as large as it must be.
func makeDisk(ctx context.Context, disk, dir, label, size string) error {
	args := []string{"-q", "-F", "-L", label, "-d", dir, disk}
	if size == "" {
		bytes, err := contentSize(dir)
		if err != nil {
			return err
		}
		// Room for inodes and the journal; the file is sparse.
		size = fmt.Sprintf("%dM", bytes*5/4>>20+64)
	} else {
		args = slices.Insert(args, 0, "-O", "verity")
	}
	return command(ctx, "mkfs.ext4", append(args, size)...)
}

// contentSize is the sum of what the files below dir take, in whole blocks.
func contentSize(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		sum += info.Size()>>12<<12 + 4096
		return nil
	})
	return sum, err
}

// command runs a program to its end. What it printed is part of the error.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
