package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestResolveUsers(t *testing.T) {
	tests := []struct {
		user, group string
		uid, gid    uint32
		refused     string // a word of the error; "" = accepted
	}{
		{user: "", uid: 0, gid: 0},
		{user: "0", uid: 0, gid: 0},
		{user: "00", uid: 0, gid: 0},
		{user: "root", uid: 0, gid: 0},
		{user: "redis", uid: 999, gid: 999},
		{user: "999", uid: 999, gid: 999},
		{user: "1234", uid: 1234, gid: 1234}, // its own group, not root's
		{user: "0033", uid: 33, gid: 33},
		{user: "33:0", uid: 33, gid: 0},
		{user: "redis:www-data", uid: 999, gid: 33},
		{user: "redis:disk", uid: 999, gid: 6},
		{user: "redis", group: "www-data", uid: 999, gid: 33},
		{user: "redis:disk", group: "12", uid: 999, gid: 12},
		{user: "65535", uid: 65535, gid: 65535},
		{user: "nobody", uid: 0, gid: 0}, // the image says so; the uid is what counts
		{user: "+0", refused: "neither"},
		{user: "-1", refused: "neither"},
		{user: "0x0", refused: "decimal"},
		{user: "1e3", refused: "decimal"},
		{user: "1000_0", refused: "decimal"},
		{user: "65536", refused: "65535"},
		{user: "2147483648", refused: "65535"},
		{user: "4294967295", refused: "65535"},
		{user: "4294967296", refused: "65535"},
		{user: "18446744073709551616", refused: "out of range"},
		{user: "1000000000000", refused: "65535"}, // a name in passwd, with uid 0
		{user: "1000:", refused: "user:group"},
		{user: ":0", refused: "user:group"},
		{user: ":", refused: "user:group"},
		{user: "a:b:c", refused: `"a"`},
		{user: "0:b:c", refused: "neither"},
		{user: "1000:4294967296", refused: "65535"},
		{user: " 0", refused: "neither"},
		{user: "0 ", refused: "decimal"},
		{user: "root\n", refused: "neither"},
		{user: "ro\x00ot", refused: "neither"},
		{user: "１０００", refused: "neither"},
		{user: "../root", refused: "neither"},
		{user: "nosuch", refused: "not in the image's /etc/passwd"},
		{user: "redis:nosuch", refused: "not in the image's /etc/group"},
		{user: "redis:99999999999999999999", refused: "out of range"},
		{user: "huge", refused: "65535"},
		{user: "hugegroup", refused: "65535"},
		{user: strings.Repeat("a", 1000), refused: "neither"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.20q,%q", tt.user, tt.group), func(t *testing.T) {
			who, err := Resolve(tt.user, tt.group, debian, MaxID(true))
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("Resolve() = %+v, %v, want an error with %q", who, err, tt.refused)
				}
				return
			}
			if err != nil || who.UID != tt.uid || who.GID != tt.gid {
				t.Errorf("Resolve() = %+v, %v, want %d:%d", who, err, tt.uid, tt.gid)
			}
		})
	}
}

func TestResolveWithTheHostsIDs(t *testing.T) {
	if who, err := Resolve("huge", "", debian, MaxID(false)); err != nil || who.UID != 100000 {
		t.Errorf("Resolve(huge) = %+v, %v, want 100000", who, err)
	}
	for _, user := range []string{"2147483648", "4294967295", "4294967296"} {
		if who, err := Resolve(user, "", debian, MaxID(false)); err == nil {
			t.Errorf("Resolve(%s) = %+v, want an error", user, who)
		}
	}
}

func TestResolveWithoutReadableAccounts(t *testing.T) {
	broken := accounts{err: errors.New("passwd is a fifo")}
	if who, err := Resolve("7", "", broken, MaxID(true)); err != nil || who.UID != 7 {
		t.Errorf("Resolve(7) = %+v, %v, want 7: a number needs no passwd", who, err)
	}
	if _, err := Resolve("redis", "", broken, MaxID(true)); err == nil || !strings.Contains(err.Error(), "fifo") {
		t.Errorf("Resolve(redis) = %v, want the reason", err)
	}
	if who, err := Resolve("root", "", accounts{}, MaxID(true)); err != nil || who.UID != 0 {
		t.Errorf("Resolve(root) of an empty image = %+v, %v, want 0", who, err)
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"", "0", "root", "a:b", "1:2", "-1", "0x1", "１", "99999999999"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, user, group string) {
		who, err := Resolve(user, group, debian, MaxID(true))
		if err == nil && (who.UID > MaxID(true) || who.GID > MaxID(true)) {
			t.Errorf("Resolve(%q, %q) = %+v, above the range", user, group, who)
		}
		if err == nil && user != "" && user[0] >= '0' && user[0] <= '9' && strings.Trim(user, "0:") != "" && who.UID == 0 && !strings.HasPrefix(strings.TrimLeft(user, "0"), ":") {
			t.Errorf("Resolve(%q, %q) is root", user, group)
		}
	})
}
