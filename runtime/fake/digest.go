package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/berth-dev/berth/runtime"
)

// ImageDigest is the digest under which the registry knows an image.
func (e *Engine) ImageDigest(ctx context.Context, ref string) (digest string, err error) {
	const op = "look up the digest of"
	err = e.call(ctx, "image-digest", ref, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.offline {
			return fail(runtime.KindUnavailable, op, ref, "the registry cannot be reached: no such host")
		}
		cfg, ok := e.remote[reference(ref)]
		if !ok {
			return fail(runtime.KindNotFound, op, ref, "not known to the registry, or it needs a login")
		}
		b, _ := json.Marshal(cfg) // strings, numbers and maps of them always marshal
		sum := sha256.Sum256(b)
		digest = "sha256:" + hex.EncodeToString(sum[:])
		return nil
	})
	return digest, err
}
