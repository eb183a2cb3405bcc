package docker

import "context"

// ImageDigest asks the registry of ref, through the engine, what its tag stands
// for now.
func (e *Engine) ImageDigest(ctx context.Context, ref string) (string, error) {
	const op = "look up the digest of"
	auth, err := e.registryAuth(ctx, ref)
	if err != nil {
		return "", e.fail(op, ref, err)
	}
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().DistributionInspect(call, ref, auth)
	if err != nil {
		return "", e.fail(op, ref, err)
	}
	return in.Descriptor.Digest.String(), nil
}
