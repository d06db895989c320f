-- Every review is in one state, nothing is taken back that was not done, and shares are shares.
select identity_key
from {{ ref('identity_quality') }}
where
    reviews <> reviews_open + reviews_accepted + reviews_rejected + reviews_closed
    or taken_back > joins + merges
    or conflicts > reviews
    or conflict_rate > review_rate
    or review_rate not between 0 and 1
    or taken_back_rate not between 0 and 1
