'use strict';
// The pictures: side by side, or one of them over the image.
for (const section of document.querySelectorAll('.pictures')) {
  const tools = section.querySelector('.tools');
  const show = (key) => {
    section.classList.toggle('stacked', key !== '');
    for (const layer of section.querySelectorAll('.layers > div')) {
      layer.classList.toggle('on', layer.dataset.layer === key);
    }
  };
  for (const choice of tools.querySelectorAll('[type=radio]')) {
    choice.addEventListener('change', () => show(choice.value));
    if (choice.checked) show(choice.value);  // as a browser may remember it
  }
  const slider = tools.querySelector('[type=range]');
  const blend = () => section.style.setProperty('--opacity', slider.value / 100);
  slider.addEventListener('input', blend);
  blend();
  tools.hidden = false;
}
