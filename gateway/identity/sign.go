package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keyLife is how long the JWTs live that stand for a role and nobody: as long as Supabase's keys do.
const keyLife = 10 * 365 * 24 * time.Hour

// ErrNoSecret says that nothing can be signed.
var ErrNoSecret = errors.New("DARKROOM_JWT_SECRET is not set")

// Signer makes JWTs that a Verifier with the same settings takes. It is safe for concurrent use.
type Signer struct {
	signer           jose.Signer
	issuer, audience string
}

// NewSigner makes a Signer with the secret of the settings, or returns [ErrNoSecret].
func NewSigner(s Settings) (*Signer, error) {
	if s.JWTSecret == "" {
		return nil, ErrNoSecret
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(s.JWTSecret)}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("making a signer: %w", err)
	}
	issuer := s.Issuer
	if issuer == "" {
		issuer = "darkroom"
	}
	return &Signer{signer, issuer, s.Audience}, nil
}

// Issuer is the iss of its JWTs: the one of the settings, or "darkroom".
func (s *Signer) Issuer() string { return s.issuer }

// Sign makes a JWT of the claims, and of iss, iat, exp and, where the settings have one, aud.
func (s *Signer) Sign(claims map[string]any, issued time.Time, life time.Duration) (string, error) {
	all := map[string]any{"iss": s.issuer, "iat": issued.Unix(), "exp": issued.Add(life).Unix()}
	maps.Copy(all, claims)
	if s.audience != "" {
		all["aud"] = s.audience
	}
	payload, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("writing claims: %w", err)
	}
	signed, err := s.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return token, nil
}

// Key makes a JWT that stands for [Anon] or [Service] and nobody, for ten years: what Supabase's dashboard shows as the project's keys.
func (s *Signer) Key(role Role) (string, error) {
	return s.Sign(map[string]any{"role": role}, time.Now(), keyLife)
}
