package image

import "testing"

func TestParsePlatform(t *testing.T) {
	for s, want := range map[string]Platform{
		"linux/amd64":    {OS: "linux", Architecture: "amd64"},
		"linux/x86_64":   {OS: "linux", Architecture: "amd64"},
		"linux/amd64/v3": {OS: "linux", Architecture: "amd64", Variant: "v3"},
		"Linux/AArch64":  {OS: "linux", Architecture: "arm64"},
		"linux/arm64/v8": {OS: "linux", Architecture: "arm64"},
		"linux/arm":      {OS: "linux", Architecture: "arm", Variant: "v7"},
		"linux/arm/6":    {OS: "linux", Architecture: "arm", Variant: "v6"},
	} {
		if got, err := ParsePlatform(s); err != nil || got != want {
			t.Errorf("ParsePlatform(%q) = %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/arm/v7/x", "linux/a b", "linux/\x1b[m", "linux/" + string(make([]byte, 33))} {
		if got, err := ParsePlatform(s); err == nil {
			t.Errorf("ParsePlatform(%q) = %+v, want an error", s, got)
		}
	}
}
