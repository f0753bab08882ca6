package quadlet

import "errors"

func (c *compiler) kube(s *source) error {
	return errors.New(".kube files come later")
}
