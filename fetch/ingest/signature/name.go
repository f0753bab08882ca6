package signature

import (
	"fmt"
	"strings"

	"rkt/image/name"
	"rkt/internal/mutant"
)

// sameName compares the name in a signature, if there is one, with the name that
// the image is asked for by: a signature must not be used for an image that
// somebody has put elsewhere under its digest. Tags and digests in it say nothing.
func sameName(signed, asked string) error {
	if signed == "" || mutant.On("anyname") {
		return nil
	}
	n, err := name.Parse(strings.TrimPrefix(signed, "docker://"))
	if err != nil || n.Host+"/"+n.Path != asked {
		return fmt.Errorf("it is for the image %.300q and not for %q", signed, asked)
	}
	return nil
}
